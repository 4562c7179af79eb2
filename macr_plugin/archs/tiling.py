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
        margin: Pixels along the inner edges of a tile that are thrown away, since the network lacks their surroundings;
            at most half of the overlap.
    """

    size: int
    overlap: int = 32
    margin: int = 0


def restore_in_tiles(
    restore: Callable[[Tensor], Tensor], image: Tensor, size: int, overlap: int, margin: int = 0
) -> Tensor:
    """Restore a picture tile by tile and blend the tiles where they overlap.

    Inside an overlap the weight of a tile falls linearly towards its edge, to zero at ``margin`` pixels from it, so
    that no seam shows. Where ``margin`` covers the network's receptive field, and tiles start where its pyramid has a
    pixel at every scale, the result is that of the whole picture. A picture that fits into one tile is restored as a
    whole.

    Args:
        restore: Maps (N, C, h, w) to (N, C, h, w); its result may be on another device.
        image: Shape (N, C, H, W), floating in [0, 1] or uint8.
        size: Largest height and width of a tile, in pixels.
        overlap: Pixels that neighbouring tiles share at least.
        margin: Pixels along the inner edges of a tile that are thrown away.

    Returns:
        Shape (N, C, H, W), of the picture's type if that is floating, else float32.

    Raises:
        InputError: If a tile is not larger than the overlap, or the margins are wider than it.

    Example:
        >>> restore_in_tiles(lambda tile: 1 - tile, torch.zeros(1, 3, 40, 50), size=32, overlap=8).shape
        torch.Size([1, 3, 40, 50])
    """
    if not 0 <= overlap < size:
        raise InputError(f"tiles of {size} px cannot overlap by {overlap} px: choose an overlap from 0 to {size - 1}")
    if not 0 <= 2 * margin <= overlap:
        raise InputError(f"an overlap of {overlap} px has no two margins of {margin} px: overlap the tiles by more")
    height, width = image.shape[-2:]
    if max(height, width) <= size:
        return restore(image)
    rows = _windows(height, size, overlap, margin)
    columns = _windows(width, size, overlap, margin)
    total = torch.zeros(
        image.shape, device=image.device, dtype=image.dtype if image.is_floating_point() else torch.float32
    )
    for row, row_weights in rows:
        for column, column_weights in columns:
            tile = restore(image[..., row, column]).to(total.device, total.dtype)
            weights = (row_weights[:, None] * column_weights).to(total.device, total.dtype)
            total[..., row, column] += tile * weights
    return total


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


def _windows(length: int, size: int, overlap: int, margin: int) -> list[tuple[slice, Tensor]]:
    """Each tile along one side with its weights, which sum to one at every pixel.

    A tile's weights rise over the overlap less the margins, stay, and fall; at the picture's edge they stay.
    """
    size = min(size, length)
    ramp = overlap - 2 * margin
    position = torch.arange(length, dtype=torch.float64)
    windows = []
    for start in tile_starts(length, size, overlap):
        inside = position[start : start + size]
        at_edge = torch.full_like(inside, margin + ramp + 1)
        from_start = inside - start + 1 if start > 0 else at_edge
        from_end = start + size - inside if start + size < length else at_edge
        distance = torch.minimum(from_start, from_end) - margin
        windows.append((slice(start, start + size), distance.clamp(0, ramp + 1) / (ramp + 1)))
    total = torch.zeros_like(position)
    for window, weights in windows:
        total[window] += weights
    return [(window, weights / total[window]) for window, weights in windows]
