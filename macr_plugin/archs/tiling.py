"""Restores a large picture in overlapping tiles, where the whole does not fit into the device's memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from macr_plugin.errors import InputError


@dataclass(frozen=True)
class Tile:
    """How pictures are cut that a network cannot take whole.

    Attributes:
        size: Largest height and width of a tile, in pixels.
        overlap: Pixels that neighbours share.
    """

    size: int
    overlap: int = 32


def restore_in_tiles(restore: Callable[[Tensor], Tensor], image: Tensor, size: int, overlap: int) -> Tensor:
    """Restore a picture tile by tile and blend the tiles where they overlap.

    Inside an overlap the weight of a tile falls linearly towards its edge, so that no seam shows. A picture that fits
    into one tile is restored as a whole.

    Args:
        restore: Maps (N, C, h, w) to (N, C, h, w).
        image: Shape (N, C, H, W).
        size: Largest height and width of a tile, in pixels.
        overlap: Pixels that neighbouring tiles share at least.

    Returns:
        Shape (N, C, H, W).

    Raises:
        InputError: If a tile is not larger than the overlap.
    """
    if not 0 <= overlap < size:
        raise InputError(f"tiles of {size} px cannot overlap by {overlap} px: choose an overlap from 0 to {size - 1}")
    height, width = image.shape[-2:]
    if max(height, width) <= size:
        return restore(image)
    tile_height, tile_width = min(size, height), min(size, width)
    weight = _edge_weights(tile_height, overlap, image)[:, None] * _edge_weights(tile_width, overlap, image)[None]
    total, weights = torch.zeros_like(image), torch.zeros_like(image[:1, :1])
    for top in tile_starts(height, size, overlap):
        for left in tile_starts(width, size, overlap):
            window = (..., slice(top, top + tile_height), slice(left, left + tile_width))
            total[window] += restore(image[window]) * weight
            weights[window] += weight
    return total / weights


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixel of each tile along one side; the last tile ends at the picture's edge.

    Args:
        length: Side of the picture, in pixels.
        size: Side of a tile.
        overlap: Pixels that neighbours share at least, below ``size``.
    """
    if length <= size:
        return [0]
    return [*range(0, length - size, size - overlap), length - size]


def _edge_weights(length: int, overlap: int, like: Tensor) -> Tensor:
    """Weights along one side of a tile: rising over the overlap, then 1, then falling."""
    from_start = torch.arange(1, length + 1, device=like.device)
    distance = torch.minimum(from_start, from_start.flip(0))
    return (distance.clamp(max=overlap + 1) / (overlap + 1)).to(like.dtype)
