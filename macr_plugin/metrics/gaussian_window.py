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
    """Average over the Gaussian window along the last two dimensions, at all positions where it fits.

    Args:
        maps: Shape (..., H, W), floating, of any value; H and W at least 11.

    Returns:
        Shape (..., H - 10, W - 10), within the range of ``maps``.

    Example:
        >>> window(torch.ones(1, 1, 11, 12))
        tensor([[[[1., 1.]]]])
    """
    return _window_along(_window_along(maps, -2), -1)


def spread(gradient: Tensor) -> Tensor:
    """Apply the transpose of :func:`window`, whose weights are the same from either end.

    Args:
        gradient: Shape (..., H, W), floating, of any value.

    Returns:
        Shape (..., H + 10, W + 10).

    Example:
        >>> spread(torch.ones(1, 1, 1, 1)).shape
        torch.Size([1, 1, 11, 11])
    """
    return window(F.pad(gradient, [2 * WINDOW_RADIUS] * 4))


def window_in_volume(maps: Tensor) -> Tensor:
    """Average over the Gaussian window along rows, columns and channels; the first and last channel are repeated.

    Args:
        maps: Shape (..., C, H, W), floating, of any value; H and W at least 11.

    Returns:
        Shape (..., C, H - 10, W - 10), within the range of ``maps``.

    Example:
        >>> window_in_volume(torch.ones(1, 3, 11, 12)).shape
        torch.Size([1, 3, 1, 2])
    """
    return _window_along(repeat_border(window(maps), -3), -3)


def repeat_border(pictures: Tensor, dim: int) -> Tensor:
    """Continue pictures by the radius of the window, 5, repeating what stands at the border.

    Args:
        pictures: A tensor of any shape, dtype and value.
        dim: The dimension to continue at both ends.

    Returns:
        The tensor, longer by 10 along ``dim``.

    Example:
        >>> repeat_border(torch.tensor([1, 2]), 0)
        tensor([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
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
