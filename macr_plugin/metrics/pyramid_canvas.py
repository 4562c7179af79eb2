"""Levels of pyramids laid on one canvas, so that one pass over it reaches windows of all of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from macr_plugin.metrics.gaussian_window import WINDOW_RADIUS


class Place(NamedTuple):
    """Where a picture lies on a canvas, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def positions(self) -> tuple[int, int]:
        """How many windows fit into the picture, downwards and to the right."""
        return self.height - 2 * WINDOW_RADIUS, self.width - 2 * WINDOW_RADIUS

    def of(self, windows: Tensor) -> Tensor:
        """The windows that fit into the picture, out of those (..., H, W) of a canvas, of any value."""
        rows, columns = self.positions
        return windows[..., self.top : self.top + rows, self.left : self.left + columns]


def _columns(pyramids: Sequence[Sequence[Tensor]]) -> dict[tuple[int, int], list[Tensor]]:
    """Maps of one size, by that size.

    Halved, the fine scale has the size of the next one: laid below each other, the maps of each size are about as high
    as the largest.
    """
    columns: dict[tuple[int, int], list[Tensor]] = {}
    for pyramid in pyramids:
        for maps in pyramid:
            columns.setdefault((maps.shape[-2], maps.shape[-1]), []).append(maps)
    return columns


def places_of(pyramids: Sequence[Sequence[Tensor]]) -> list[Place]:
    """The place of each level of the first pyramid, then of the second, and so on, where :func:`arrange` lays them.

    Args:
        pyramids: Levels (2, N, C, H, W) of each, of any value.

    Returns:
        Places in pixels, as many as there are levels.

    Example:
        >>> places_of([[torch.zeros(2, 1, 3, 32, 32), torch.zeros(2, 1, 3, 16, 16)]])[1]
        Place(top=0, left=32, height=16, width=16)
    """
    lefts = dict(zip(columns := _columns(pyramids), starts([width for _, width in columns]), strict=True))
    tops = dict.fromkeys(columns, 0)
    places = []
    for pyramid in pyramids:
        for maps in pyramid:
            size = maps.shape[-2], maps.shape[-1]
            places.append(Place(tops[size], lefts[size], *size))
            tops[size] += size[0]
    return places


def arrange(pyramids: Sequence[Sequence[Tensor]]) -> Tensor:
    """Lay all levels of all pyramids on one canvas: those of one size below each other, the columns side by side.

    Args:
        pyramids: Levels (2, N, C, H_i, W_i) of each, of any value.

    Returns:
        Shape (2, N, C, H, W), zero between the levels.

    Example:
        >>> arrange([[torch.zeros(2, 1, 3, 32, 32), torch.zeros(2, 1, 3, 16, 16)]]).shape
        torch.Size([2, 1, 3, 32, 48])
    """
    columns = _columns(pyramids)
    height = max(size[0] * len(column) for size, column in columns.items())
    stacked = [torch.cat(column, dim=-2) if len(column) > 1 else column[0] for column in columns.values()]
    padded = [F.pad(one, (0, 0, 0, height - one.shape[-2])) if one.shape[-2] < height else one for one in stacked]
    return torch.cat(padded, dim=-1) if len(padded) > 1 else padded[0]


def means(windows: Tensor, places: Sequence[Place]) -> Tensor:
    """Mean over the windows of each picture on a canvas.

    Args:
        windows: Shape (N, C, H, W), of any value.
        places: Of P pictures.

    Returns:
        Shape (P, N, C), within the range of ``windows``.

    Example:
        >>> means(torch.ones(1, 2, 22, 22), [Place(0, 0, 32, 32)])
        tensor([[[1., 1.]]])
    """
    # Row by row: the sum of a picture is the same to the bit, whatever lies beside it.
    return torch.stack([place.of(windows).mean(-1).mean(-1) for place in places])


def runs(levels: Sequence[int]) -> list[tuple[int, int]]:
    """Start and length of each pyramid in a list of all levels of all pyramids."""
    return list(zip(starts(levels), levels, strict=True))


def starts(lengths: Sequence[int]) -> list[int]:
    """Where each of several lengths begins if they follow each other."""
    return list(itertools.accumulate(lengths, initial=0))[:-1]
