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

A GPU takes longer to be told what to do with a small picture than to do it. So the pictures of all levels, and of all
scales of a training, lie side by side on one canvas, which is filtered and compared at once; windows that reach over
the border of a picture are computed too, and left out of every mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from macr_plugin.errors import InputError
from macr_plugin.metrics.gaussian_window import WINDOW_SIZE, window_in_volume
from macr_plugin.metrics.pyramid_canvas import Place, arrange, places_of, runs
from macr_plugin.metrics.similarity_maps import (
    K1,
    K2,
    MeanSimilarity,
    deficit_of,
    local_moments,
    similarity_map,
    sum_and_difference,
)

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
        SSIM and MS-SSIM of every picture, each of shape (N,), in float32, or in float64 if an input
        is float64, whatever autocast says.

    Raises:
        InputError: If the shapes differ or are not four-dimensional, if a dtype is not floating, if a side is below
            11 px or if ``max_levels`` is not between 1 and 5.

    Example:
        >>> picture = torch.rand(2, 3, 32, 32)
        >>> structural_similarity(picture, picture).ms_ssim
        tensor([1., 1.])
    """
    similarity = pyramid_similarity([prediction], [target], max_levels=max_levels, data_range=data_range, floor=floor)
    return StructuralSimilarity(similarity.ssim[0], similarity.ms_ssim[0])


def pyramid_similarity(
    predictions: Sequence[Tensor],
    targets: Sequence[Tensor],
    *,
    max_levels: int = 5,
    data_range: float = 1.0,
    floor: float = 0.0,
) -> StructuralSimilarity:
    """Compute SSIM and MS-SSIM of one batch of pictures at several scales, in about as many operations as at one.

    Args:
        predictions: S tensors (N, C, H_i, W_i), floating, in the range [0, ``data_range``]: the same pictures at scales
            of any size.
        targets: As many of the same shapes.
        max_levels: As in :func:`structural_similarity`.
        data_range: Likewise.
        floor: Likewise.

    Returns:
        SSIM and MS-SSIM of every scale and picture, both of shape (S, N).

    Raises:
        InputError: As :func:`structural_similarity`.

    Example:
        >>> scales = [torch.rand(2, 3, 32, 32), torch.rand(2, 3, 16, 16)]
        >>> pyramid_similarity(scales, scales).ssim.shape
        torch.Size([2, 2])
    """
    for prediction, target in zip(predictions, targets, strict=True):
        _check_pair(prediction, target)
    levels = [level_count(picture.shape[-2], picture.shape[-1], max_levels) for picture in predictions]
    with torch.autocast(predictions[0].device.type, enabled=False):
        pairs = zip(predictions, targets, strict=True)
        maps = [sum_and_difference(at_least_float32(first), at_least_float32(second)) for first, second in pairs]
        pyramids = [_pyramid(one, count) for one, count in zip(maps, levels, strict=True)]
        # Neither moment depends on the offset, so its gradient is zero by construction and need not be computed.
        offsets = [[one.detach().mean((-2, -1), keepdim=True) for one in maps] for maps in pyramids]
        centred = [
            [one - offset for one, offset in zip(*levels_of_one, strict=True)]
            for levels_of_one in zip(pyramids, offsets, strict=True)
        ]
        places = places_of(centred)
        compared = [start + level for start, count in runs(levels) for level in sorted({0, count - 1})]
        offset_of = list(itertools.chain.from_iterable(offsets))
        contrasts, similarities = _mean_similarity(
            arrange(centred), torch.stack([offset_of[number] for number in compared]), places, compared, data_range
        )
        similarity = dict(zip(compared, similarities.unbind(), strict=True))
        first = torch.stack([similarity[start] for start, _ in runs(levels)])
        terms = list((1 - contrasts).unbind())
        for start, count in runs(levels):
            terms[start + count - 1] = similarity[start + count - 1]
        return StructuralSimilarity(first.mean(2), _combine_levels(torch.stack(terms), levels, floor).mean(2))


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

    Example:
        >>> picture = torch.rand(2, 3, 32, 32)
        >>> ssim(picture, picture)
        tensor([1., 1.])
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

    Example:
        >>> picture = torch.rand(2, 3, 32, 32)
        >>> volume_ssim(picture, picture)
        tensor([1., 1.])
    """
    _check_pair(prediction, target)
    level_count(prediction.shape[-2], prediction.shape[-1], 1)
    with torch.no_grad(), torch.autocast(prediction.device.type, enabled=False):
        first, second = at_least_float32(prediction), at_least_float32(target)
        maps = sum_and_difference(first, second)
        offset = maps.mean((-3, -2, -1), keepdim=True)
        mean, variance = local_moments(maps - offset, window_in_volume)
        contrast = deficit_of(variance, (K2 * data_range) ** 2)
        luminance = deficit_of((mean + offset).square(), (K1 * data_range) ** 2)
        return similarity_map(contrast, luminance).mean((-3, -2, -1))


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
    if shorter < WINDOW_SIZE:
        raise InputError(f"a picture of {height}x{width} px is too small for SSIM: use at least 11 px on each side")
    levels = 1
    while levels < max_levels and shorter >= (WINDOW_SIZE - 1) * 2**levels + 1:
        levels += 1
    return levels


def at_least_float32(tensor: Tensor) -> Tensor:
    """Cast a floating tensor narrower than float32 to float32.

    Args:
        tensor: A floating tensor of any shape and value.

    Returns:
        The tensor in float32 or float64, unchanged if it already was.

    Example:
        >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
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


def _pyramid(maps: Tensor, levels: int) -> list[Tensor]:
    """Maps (2, N, C, H, W) at all levels, finest first."""
    pyramid = [maps]
    for _ in range(levels - 1):
        pyramid.append(_halve(pyramid[-1]))
    return pyramid


def _halve(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    pooled = F.avg_pool2d(maps.flatten(0, 1), kernel_size=2, padding=(height % 2, width % 2))
    return pooled.unflatten(0, maps.shape[:2])


def _mean_similarity(
    canvas: Tensor, offsets: Tensor, places: Sequence[Place], compared: Sequence[int], data_range: float
) -> tuple[Tensor, Tensor]:
    """Mean deficits and mean SSIM of :class:`MeanSimilarity`, in the way that suits the device."""
    fixed = tuple(places), tuple(compared), data_range
    if canvas.device.type != "cpu" or torch.compiler.is_compiling():
        return MeanSimilarity.apply(canvas, offsets, *fixed)
    # A whole batch does not fit into the cache of a processor; one of its pictures does.
    pictures = zip(canvas.split(1, dim=1), offsets.split(1, dim=2), strict=True)
    contrasts, similarities = zip(*(MeanSimilarity.apply(*one, *fixed) for one in pictures), strict=True)
    return torch.cat(contrasts, dim=1), torch.cat(similarities, dim=1)


def _combine_levels(terms: Tensor, levels: Sequence[int], floor: float) -> Tensor:
    """Multiply the terms of each pyramid, each to the power of its weight, and continue them below the floor.

    Args:
        terms: Terms of all levels of the first pyramid, then of the second, and so on, shape (T, N, C).
        levels: Number of levels of each pyramid.
        floor: As in :func:`structural_similarity`.

    Returns:
        Shape (S, N, C) for S pyramids.
    """
    # Filled one by one: a copy of a list to a GPU would make the host wait.
    weights = [terms.new_full((1, 1), weight) for count in levels for weight in _level_weights(count)]
    weight = torch.stack(weights)
    logarithms = (weight * terms.clamp(min=floor).log()).split(list(levels))
    product = torch.stack([one.sum(0) for one in logarithms]).exp()
    if floor <= 0:
        return product
    continuations = (weight * (terms - floor).clamp(max=0)).split(list(levels))
    return product + torch.stack([one.sum(0) for one in continuations])


def _level_weights(levels: int) -> tuple[float, ...]:
    # The published weights add up to 1.0001; rescaling all five would break the agreement with other implementations.
    if levels == len(_LEVEL_WEIGHTS):
        return _LEVEL_WEIGHTS
    weights = _LEVEL_WEIGHTS[:levels]
    return tuple(weight / math.fsum(weights) for weight in weights)
