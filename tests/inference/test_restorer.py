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


class Resized(nn.Module):
    """A network whose output has another size, or another number of channels."""

    def __init__(self, height, width, channels=3, pyramid=False):
        super().__init__()
        self.shape, self.pyramid = (height, width, channels), pyramid

    def forward(self, x):
        height, width, channels = self.shape
        output = torch.zeros(len(x), channels, int(x.shape[-2] * height), int(x.shape[-1] * width))
        return [x[..., ::2, ::2], output] if self.pyramid else output


@pytest.mark.parametrize("network", [Resized(2, 2), Resized(0.5, 0.5), Resized(1, 1.5), Resized(1, 1, channels=1)])
@pytest.mark.parametrize("tile", [None, Tile(16, 4)])
def test_another_size_is_refused_and_never_cut_to_fit(network, tile):
    with pytest.raises(InputError, match=r"Resized returns \d+x\d+ px in \d channels for .*: a network that deblurs"):
        Restorer(network, size_multiple=8, tile=tile)(torch.rand(1, 3, 24, 32))
    network.pyramid = True
    with pytest.raises(InputError, match="returns the size that it gets"):
        Restorer(network)(torch.rand(1, 3, 24, 32))
