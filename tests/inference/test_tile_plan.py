import basicsr  # noqa: F401  registers the plugin
import pytest
import torch
from torch import nn

from macr_plugin.archs.tiling import Tile
from macr_plugin.inference import tile_plan
from macr_plugin.inference.tile_plan import (
    bytes_per_pixel,
    largest_side,
    plan_tiles,
    receptive_radius,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(("kernel", "dilation", "layers", "radius"), [(3, 1, 1, 1), (5, 1, 3, 6), (3, 7, 2, 14)])
def test_radius_of_convolutions_is_the_theoretical_one(kernel, dilation, layers, radius):
    """With kernels of ones everything that a pixel can see counts."""
    convolutions = [nn.Conv2d(3, 3, kernel, padding=dilation * (kernel // 2), dilation=dilation) for _ in range(layers)]
    for convolution in convolutions:
        nn.init.constant_(convolution.weight, 1 / kernel**2 / 3)
        nn.init.zeros_(convolution.bias)
    assert receptive_radius(nn.Sequential(*convolutions), CPU) == radius


def test_global_pooling_sees_everything():
    assert receptive_radius(lambda x: x - x.mean(dim=(2, 3), keepdim=True), CPU) == tile_plan.CUT


@pytest.mark.parametrize(
    ("size", "radius", "tile"),
    [
        (256, 40, Tile(256, 112, 48)),
        (260, 48, Tile(256, 112, 48)),
        (64, 40, Tile(64, 48, 16)),
        (16, 40, Tile(16, 0, 0)),
        (5, 0, Tile(16, 0, 0)),
    ],
)
def test_tiles_lie_on_the_pyramid_and_hold_their_margins(size, radius, tile):
    assert plan_tiles(size, radius, step=16) == tile


def test_memory_of_known_operations():
    """At the peak the copy of the input and the two results of one operation are alive."""
    assert bytes_per_pixel(lambda x: (x + 1) * 2, CPU) == tile_plan.WORKSPACE * (3 + 3 + 3) * 4
    in_place = bytes_per_pixel(lambda x: (x + 1).mul_(2), CPU)
    assert in_place == tile_plan.WORKSPACE * (3 + 3) * 4


def test_memory_of_sparse_matrices_is_that_of_their_parts():
    def doubled(x):
        places = torch.arange(128)
        matrix = torch.sparse_csr_tensor(torch.arange(129), places, torch.full((128,), 2.0), (128, 128))
        return (matrix @ x[0, 0])[None, None]

    assert bytes_per_pixel(doubled, CPU) >= tile_plan.WORKSPACE * (3 + 1) * 4


def test_the_side_follows_the_free_memory(monkeypatch):
    monkeypatch.setattr(tile_plan, "free_memory", lambda device: 2 * 1000**2 * 50)
    assert largest_side(50, CPU) == 1000
    monkeypatch.setattr(tile_plan, "free_memory", lambda device: 0)
    assert largest_side(50, CPU) == tile_plan.SMALLEST_TILE
