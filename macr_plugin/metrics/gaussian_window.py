"""The Gaussian window that SSIM compares pictures within: 11 pixels wide, with a standard deviation of 1.5."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_SIZE = 11
WINDOW_RADIUS = WINDOW_SIZE // 2
_WINDOW_SIGMA = 1.5


def _gaussian_weights() -> tuple[float, ...]:
    weights = [
        math.exp(-0.5 * (position / _WINDOW_SIGMA) ** 2) for position in range(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
    ]
    return tuple(weight / math.fsum(weights) for weight in weights)


_WEIGHTS = _gaussian_weights()
# How far each tap moves the mean of those before it.
_CHAIN = tuple(_WEIGHTS[tap] / math.fsum(_WEIGHTS[: tap + 1]) for tap in range(WINDOW_SIZE))


def window(maps: Tensor) -> Tensor:
    """Apply the Gaussian window over the last two dimensions, at all positions where it fits."""
    return _window_along(_window_along(maps, -2), -1)


def spread(gradient: Tensor) -> Tensor:
    """Apply the transpose of :func:`window`, whose weights are the same from either end."""
    return window(F.pad(gradient, [2 * WINDOW_RADIUS] * 4))


def window_in_volume(maps: Tensor) -> Tensor:
    """Apply the Gaussian window along rows, columns and channels, whose ends are repeated."""
    return _window_along(repeat_border(window(maps), -3), -3)


def repeat_border(pictures: Tensor, dim: int) -> Tensor:
    """Continue pictures by the radius of the window, 5, repeating what stands at the border.

    Args:
        pictures: A tensor of any shape and dtype.
        dim: The dimension to continue at both ends.

    Returns:
        The tensor, longer by 10 along ``dim``.
    """
    size = pictures.shape[dim]
    positions = torch.arange(-WINDOW_RADIUS, size + WINDOW_RADIUS, device=pictures.device)
    return pictures.index_select(dim, positions.clamp(0, size - 1))


def _window_along(maps: Tensor, dim: int) -> Tensor:
    positions = maps.shape[dim] - 2 * WINDOW_RADIUS
    taps = [maps.narrow(dim, tap, positions) for tap in range(WINDOW_SIZE)]
    mean = taps[0].lerp(taps[1], _CHAIN[1])
    for tap, share in zip(taps[2:], _CHAIN[2:], strict=True):
        mean.lerp_(tap, share)
    return mean
