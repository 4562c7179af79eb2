"""SSIM and MS-SSIM of image batches from one differentiable pass.

The first level of the MS-SSIM pyramid is SSIM itself, so both come out of the same filtering.

Three choices keep float32 as good as a float64 reference:

* With the sum s = x + y and the difference d = x - y of the two pictures, and A and B their variances within the
  window, the two factors of SSIM (eq. 4 of the paper) read ``1 - 2 B / (A + B + 2 C2)`` for contrast and structure and
  ``1 - mean(d)^2 / ((mean(s)^2 + mean(d)^2) / 2 + C1)`` for luminance. Equal pictures have d = 0, which gives exactly 1
  and an exactly zero gradient, without the difference of two nearly equal covariances.
* The mean of every picture and channel is removed before squaring. A variance does not depend on it, but the rounding
  error of ``mean(d^2) - mean(d)^2`` grows with its square.
* The window is a chain of linear interpolations, which maps a constant to that very constant. The rounding error in
  flat regions, which would be the same in every pixel and hence survive averaging, is therefore zero.

The chain also keeps the filter clear of convolutions, and thereby of TF32, whatever the global precision settings are,
in the forward and in the backward pass.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from macr_plugin.errors import InputError

_WINDOW_SIZE = 11
_WINDOW_RADIUS = _WINDOW_SIZE // 2
_WINDOW_SIGMA = 1.5
_K1 = 0.01
_K2 = 0.03
_LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class StructuralSimilarity(NamedTuple):
    """The result of :func:`structural_similarity`.

    Attributes:
        ssim: SSIM of every picture, shape (N,), at most 1.
        ms_ssim: MS-SSIM of every picture, shape (N,), at most 1.
    """

    ssim: Tensor
    ms_ssim: Tensor


def structural_similarity(
    prediction: Tensor, target: Tensor, *, max_levels: int = 5, data_range: float = 1.0, floor: float = 0.0
) -> StructuralSimilarity:
    """Compute SSIM (eq. 4 of the paper) and MS-SSIM in one pass.

    The window is an 11 x 11 Gaussian with sigma 1.5 without padding, K1 = 0.01 and K2 = 0.03; channels are averaged.
    MS-SSIM multiplies, per channel, the mean contrast terms of all levels but the last with the mean SSIM of the last,
    each raised to the weight of its level, as ``pytorch_msssim.ms_ssim`` does. The number of levels follows
    :func:`level_count`; fewer than five use the first weights, rescaled to the sum 1.

    A term can be negative where the pictures are anti-correlated, and no power of it exists. With ``floor = 0`` such a
    term counts as 0, which is the usual definition and carries no usable gradient: reserve it for reporting. With
    ``floor > 0`` a term x of weight w enters the product as ``max(x, floor) ** w`` and adds ``w * min(x - floor, 0)``
    to it, so that below the floor MS-SSIM keeps rising with x instead of going flat. Both agree wherever all terms
    exceed the floor.

    Args:
        prediction: Pictures of shape (N, C, H, W), floating, in the range [0, ``data_range``].
        target: Pictures of the same shape.
        max_levels: The most levels MS-SSIM may use, from 1 to 5.
        data_range: The distance between black and white.
        floor: The value below which a term of MS-SSIM is continued by a straight line.

    Returns:
        SSIM and MS-SSIM of every picture, in float32, or in float64 if an input is float64, whatever autocast says.

    Raises:
        InputError: If the shapes differ or are not four-dimensional, if a dtype is not floating, if a side is below
            11 px or if ``max_levels`` is not between 1 and 5.
    """
    _check_pair(prediction, target)
    levels = level_count(prediction.shape[-2], prediction.shape[-1], max_levels)
    with torch.autocast(prediction.device.type, enabled=False):
        first, second = at_least_float32(prediction), at_least_float32(target)
        maps = torch.stack((first + second, first - second)).contiguous()
        first_level, terms = _level_terms(maps, levels, data_range)
        return StructuralSimilarity(first_level.mean(1), _combine_levels(terms, floor).mean(1))


def ssim(prediction: Tensor, target: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Compute SSIM (eq. 4 of the paper) alone, from the first level only.

    Args:
        prediction: Pictures of shape (N, C, H, W), floating, in the range [0, ``data_range``].
        target: Pictures of the same shape.
        data_range: The distance between black and white.

    Returns:
        SSIM of every picture, shape (N,), as in :func:`structural_similarity`.

    Raises:
        InputError: As :func:`structural_similarity`.
    """
    return structural_similarity(prediction, target, max_levels=1, data_range=data_range).ssim


def volume_ssim(prediction: Tensor, target: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Compute SSIM with a window that spans the channels as well, as MATLAB's ``ssim`` of a colour picture does.

    The window is an 11 x 11 x 11 Gaussian with sigma 1.5 over channels, rows and columns. The first and the last
    channel are repeated outwards. Rows and columns are not: MATLAB repeats the border of the picture by 5 px, which is
    left to the caller. Not differentiable.

    Args:
        prediction: Pictures of shape (N, C, H, W), floating, in the range [0, ``data_range``].
        target: Pictures of the same shape.
        data_range: The distance between black and white.

    Returns:
        SSIM of every picture, shape (N,), the mean over all channels and all positions where the window fits, in
        float32, or in float64 if an input is float64.

    Raises:
        InputError: If the shapes differ or are not four-dimensional, if a dtype is not floating or if a side is below
            11 px.
    """
    _check_pair(prediction, target)
    level_count(prediction.shape[-2], prediction.shape[-1], 1)
    with torch.no_grad(), torch.autocast(prediction.device.type, enabled=False):
        first, second = at_least_float32(prediction), at_least_float32(target)
        maps = torch.stack((first + second, first - second)).contiguous()
        mean, variance = _local_moments(maps, _window_in_volume, (-3, -2, -1))
        contrast = _deficit(variance, (_K2 * data_range) ** 2)
        return _similarity(contrast, mean, data_range).mean((-3, -2, -1))


def level_count(height: int, width: int, max_levels: int = 5) -> int:
    """Return the number of MS-SSIM levels for a picture size.

    It is the largest L up to ``max_levels`` with ``min(height, width) >= 10 * 2 ** (L - 1) + 1``: one level needs
    11 px, two 21, three 41, four 81 and five 161.

    Args:
        height: The height in pixels.
        width: The width in pixels.
        max_levels: The most levels allowed, from 1 to 5.

    Returns:
        The number of levels, from 1 to ``max_levels``.

    Raises:
        InputError: If a side is below 11 px or if ``max_levels`` is not between 1 and 5.
    """
    if not 1 <= max_levels <= len(_LEVEL_WEIGHTS):
        raise InputError(f"max_levels is {max_levels}: MS-SSIM has 1 to {len(_LEVEL_WEIGHTS)} levels")
    shorter = min(height, width)
    if shorter < _WINDOW_SIZE:
        raise InputError(f"a picture of {height}x{width} px is too small for SSIM: use at least 11 px on each side")
    levels = 1
    while levels < max_levels and shorter >= (_WINDOW_SIZE - 1) * 2**levels + 1:
        levels += 1
    return levels


def at_least_float32(tensor: Tensor) -> Tensor:
    """Cast a floating tensor narrower than float32 to float32.

    Args:
        tensor: A floating tensor of any shape.

    Returns:
        The tensor in float32 or float64, unchanged if it already was.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check_pair(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or prediction.ndim != 4:
        raise InputError(
            f"cannot compare pictures of shapes {tuple(prediction.shape)} and {tuple(target.shape)}: "
            "both must have the same shape (N, C, H, W)"
        )
    if not (prediction.is_floating_point() and target.is_floating_point()):
        raise InputError(
            f"cannot compare pictures of types {prediction.dtype} and {target.dtype}: convert both to floating point"
        )


def _level_terms(maps: Tensor, levels: int, data_range: float) -> tuple[Tensor, list[Tensor]]:
    """Return the SSIM of the first level and the term of every level, each (N, C).

    ``maps`` stacks the sum and the difference of the pictures, (2, N, C, H, W): both are linear in the pictures, and so
    is halving the size, so the pyramid is built from them directly.
    """
    similarities, terms = [], []
    for level in range(levels):
        mean, variance = _local_moments(maps, _GaussianWindow.apply, (-2, -1))
        contrast = _deficit(variance, (_K2 * data_range) ** 2)
        terms.append(1 - contrast.mean((-2, -1)))
        if level in (0, levels - 1):
            similarities.append(_similarity(contrast, mean, data_range).mean((-2, -1)))
        if level < levels - 1:
            maps = _halve(maps)
    return similarities[0], [*terms[:-1], similarities[-1]]


def _local_moments(maps: Tensor, window: Callable[[Tensor], Tensor], dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the mean and biased variance of (..., H, W) maps within a window over dims, each (..., H - 10, W - 10)."""
    # Neither moment depends on the offset, so its gradient is zero by construction and need not be computed.
    offset = maps.detach().mean(dims, keepdim=True)
    centred = maps - offset
    mean, mean_square = window(torch.stack((centred, centred.square())))
    return mean + offset, mean_square - mean.square()


def _deficit(moments: Tensor, constant: float) -> Tensor:
    """Return how much a factor of SSIM falls short of 1, from squared moments of the sum and of the difference."""
    of_sum, of_difference = moments
    return 2 * of_difference / (of_sum + of_difference + 2 * constant)


def _similarity(contrast: Tensor, mean: Tensor, data_range: float) -> Tensor:
    """Return the map of SSIM from the deficit in contrast and the means of the sum and of the difference."""
    luminance = _deficit(mean.square(), (_K1 * data_range) ** 2)
    return 1 - (contrast + luminance - contrast * luminance)


def _halve(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    pooled = F.avg_pool2d(maps.flatten(0, 1), kernel_size=2, padding=(height % 2, width % 2))
    return pooled.unflatten(0, maps.shape[:2])


def _combine_levels(terms: list[Tensor], floor: float) -> Tensor:
    """Multiply the (N, C) terms of the levels, each to the power of its weight, and continue them below the floor."""
    product, continuation = torch.ones_like(terms[0]), torch.zeros_like(terms[0])
    for term, weight in zip(terms, _level_weights(len(terms)), strict=True):
        product = product * term.clamp(min=floor) ** weight
        continuation = continuation + weight * (term - floor).clamp(max=0)
    return product + continuation if floor > 0 else product


def _level_weights(levels: int) -> tuple[float, ...]:
    # The published weights add up to 1.0001; rescaling all five would break the agreement with other implementations.
    if levels == len(_LEVEL_WEIGHTS):
        return _LEVEL_WEIGHTS
    weights = _LEVEL_WEIGHTS[:levels]
    return tuple(weight / math.fsum(weights) for weight in weights)


def _gaussian_weights() -> tuple[float, ...]:
    weights = [
        math.exp(-0.5 * (position / _WINDOW_SIGMA) ** 2) for position in range(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1)
    ]
    return tuple(weight / math.fsum(weights) for weight in weights)


_WEIGHTS = _gaussian_weights()


class _GaussianWindow(torch.autograd.Function):
    """The Gaussian window over the last two dimensions, at all positions where it fits."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        return _window_along(_window_along(maps, -2), -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _spread_along(_spread_along(gradient, -1), -2)


def _window_in_volume(maps: Tensor) -> Tensor:
    """Apply the Gaussian window along rows, columns and channels, whose ends are repeated."""
    mean = _window_along(_window_along(maps, -2), -1)
    return _window_along(repeat_border(mean, -3), -3)


def repeat_border(pictures: Tensor, dim: int) -> Tensor:
    """Continue pictures by the radius of the window, 5, repeating what stands at the border.

    Args:
        pictures: A tensor of any shape and dtype.
        dim: The dimension to continue at both ends.

    Returns:
        The tensor, longer by 10 along ``dim``.
    """
    size = pictures.shape[dim]
    positions = torch.arange(-_WINDOW_RADIUS, size + _WINDOW_RADIUS, device=pictures.device)
    return pictures.index_select(dim, positions.clamp(0, size - 1))


def _window_along(maps: Tensor, dim: int) -> Tensor:
    positions = maps.shape[dim] - 2 * _WINDOW_RADIUS
    mean = maps.narrow(dim, 0, positions).clone()
    for tap in range(1, _WINDOW_SIZE):
        mean.lerp_(maps.narrow(dim, tap, positions), _WEIGHTS[tap] / math.fsum(_WEIGHTS[: tap + 1]))
    return mean


def _spread_along(gradient: Tensor, dim: int) -> Tensor:
    """Apply the transpose of :func:`_window_along`."""
    positions = gradient.shape[dim]
    shape = list(gradient.shape)
    shape[dim] = positions + 2 * _WINDOW_RADIUS
    spread = gradient.new_zeros(shape)
    for tap, weight in enumerate(_WEIGHTS):
        spread.narrow(dim, tap, positions).add_(gradient, alpha=weight)
    return spread
