import pytest
import torch
from torch import nn

from macr_plugin.archs.tiling import Tile
from macr_plugin.errors import InputError
from macr_plugin.inference.restorer import Restorer, device_name, find_device


def test_the_largest_picture_of_a_pyramid_is_restored_at_its_size():
    class Pyramid(nn.Module):
        def forward(self, x):
            assert x.shape[-2] % 8 == x.shape[-1] % 8 == 0
            return [x[..., ::2, ::2], x + 1]

    picture = torch.rand(1, 3, 13, 21)
    assert torch.equal(Restorer(Pyramid(), size_multiple=8)(picture), picture + 1)
    torch.testing.assert_close(Restorer(Pyramid(), 8, Tile(16, 4))(picture), picture + 1)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="devices: cuda asks for a GPU"):
        find_device("cuda")
    assert device_name(torch.device("cpu")).endswith(("thread", "threads"))
