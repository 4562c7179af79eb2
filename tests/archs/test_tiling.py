import pytest
import torch

from macr_plugin.archs.tiling import restore_in_tiles, tile_starts
from macr_plugin.errors import InputError


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [(10, 16, 4, [0]), (16, 16, 4, [0]), (17, 16, 4, [0, 1]), (28, 16, 4, [0, 12]), (30, 16, 4, [0, 12, 14])],
)
def test_tiles_cover_the_side_and_share_the_overlap(length, size, overlap, starts):
    assert tile_starts(length, size, overlap) == starts


@pytest.mark.parametrize("shape", [(37, 51), (16, 80), (9, 9)])
def test_a_pointwise_network_gives_the_same_in_tiles(shape):
    picture = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    tiled = restore_in_tiles(lambda x: 1 - x.square(), picture, size=16, overlap=5)
    torch.testing.assert_close(tiled, 1 - picture.square())


def test_no_tile_is_larger_than_allowed_and_a_small_picture_is_one_tile():
    sizes = []

    def record(x):
        sizes.append(tuple(x.shape[-2:]))
        return x

    picture = torch.rand(1, 3, 20, 40)
    restore_in_tiles(record, picture, size=16, overlap=4)
    assert set(sizes) == {(16, 16)}
    sizes.clear()
    assert restore_in_tiles(record, picture, size=40, overlap=4) is picture
    assert sizes == [(20, 40)]


def test_tiles_blend_without_a_step():
    """Tiles that disagree by one change from pixel to pixel by no more than the ramp does."""
    levels = iter([0.0, 1.0])
    tiled = restore_in_tiles(lambda x: torch.full_like(x, next(levels)), torch.zeros(1, 1, 8, 28), 16, 4)
    row = tiled[0, 0, 0]
    assert row[:12].eq(0).all()
    assert row[16:].eq(1).all()
    torch.testing.assert_close(row[12:16], torch.tensor([0.2, 0.4, 0.6, 0.8]))


@pytest.mark.parametrize("overlap", [-1, 16])
def test_an_overlap_must_be_smaller_than_a_tile(overlap):
    with pytest.raises(InputError, match="choose an overlap from 0 to 15"):
        restore_in_tiles(lambda x: x, torch.zeros(1, 3, 32, 32), 16, overlap)


def test_margins_hide_what_a_tile_lacks():
    """Each output pixel is the mean of 9x9, so four pixels at the edges of a tile are wrong."""
    average = torch.nn.AvgPool2d(9, stride=1, padding=4)
    picture = torch.rand(1, 3, 60, 90, generator=torch.Generator().manual_seed(0))
    whole = average(picture)
    for overlap in (8, 11):
        torch.testing.assert_close(restore_in_tiles(average, picture, 24, overlap, margin=4), whole)
    assert (restore_in_tiles(average, picture, 24, 8, margin=3) - whole).abs().max() > 1e-3


def test_margins_wider_than_a_narrow_picture_leave_its_edges_alone():
    picture = torch.rand(1, 3, 90, 7)
    torch.testing.assert_close(restore_in_tiles(lambda x: x, picture, 48, 40, margin=20), picture)


def test_bytes_become_floating():
    picture = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 4, 64)
    tiled = restore_in_tiles(lambda x: x.float() / 255, picture, 16, 4)
    torch.testing.assert_close(tiled, picture.float() / 255)


def test_margins_need_an_overlap():
    with pytest.raises(InputError, match="no two margins of 5 px"):
        restore_in_tiles(lambda x: x, torch.zeros(1, 3, 32, 32), 16, 8, margin=5)
