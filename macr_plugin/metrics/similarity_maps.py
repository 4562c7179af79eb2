"""The two factors of SSIM at every position of its window, and their means with the gradient.

Both come from the sum and the difference of two pictures; :mod:`macr_plugin.metrics.structural_similarity` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from macr_plugin.metrics.gaussian_window import spread, window
from macr_plugin.metrics.pyramid_canvas import Place, means

K1 = 0.01
K2 = 0.03


def sum_and_difference(first: Tensor, second: Tensor) -> Tensor:
    """Stack the sum and the difference of two pictures: both are linear in the pictures.

    So is halving the size, hence pyramids are built from them directly.

    Args:
        first: Shape (N, C, H, W), floating, of any value range.
        second: The same shape.

    Returns:
        Shape (2, N, C, H, W).

    Example:
        >>> sum_and_difference(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).flatten()
        tensor([2., 0.])
    """
    return torch.stack((first + second, first - second)).contiguous()


def local_moments(centred: Tensor, window: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and biased variance of maps within a window.

    Args:
        centred: Shape (..., H, W), of any value; the nearer to 0, the smaller the rounding error.
        window: :func:`~macr_plugin.metrics.gaussian_window.window`, or the one over channels too.

    Returns:
        Each (..., H - 10, W - 10); the variance is at least 0 up to rounding.

    Example:
        >>> mean, variance = local_moments(torch.ones(1, 1, 11, 12), window)
        >>> mean.shape, variance.max()
        (torch.Size([1, 1, 1, 2]), tensor(0.))
    """
    # One after the other: both at once would not fit into the cache of a processor.
    mean = window(centred)
    return mean, window(centred.square()).sub_(mean.square())


def deficit_of(moments: Tensor, constant: float) -> Tensor:
    """Return how much a factor of SSIM falls short of 1.

    Args:
        moments: Squared means or variances of the sum and of the difference, at least 0, shape (2, N, C, H, W).
        constant: C1 or C2 of eq. 4.

    Returns:
        Shape (N, C, H, W), in [0, 2).

    Example:
        >>> deficit_of(torch.tensor([1.0, 0.0]), 0.01)
        tensor(0.)
    """
    of_sum, of_difference = moments
    return (2 * of_difference).div_((of_sum + of_difference).add_(2 * constant))


def _deficit_gradient(gradient: Tensor, deficit: Tensor, moments: Tensor, constant: float) -> Tensor:
    """Return the gradient of both moments from that of :func:`deficit_of`."""
    of_sum, of_difference = moments
    scaled = gradient / (of_sum + of_difference).add_(2 * constant)
    towards_sum = (scaled * deficit).neg_()
    return torch.stack((towards_sum, towards_sum.add(scaled, alpha=2)))


def similarity_map(contrast: Tensor, luminance: Tensor) -> Tensor:
    """Return the map of SSIM.

    Args:
        contrast: Deficit in contrast and structure, shape (N, C, H, W), in [0, 2).
        luminance: Deficit in luminance, of the same shape and range.

    Returns:
        The same shape, at most 1.

    Example:
        >>> similarity_map(torch.zeros(2), torch.tensor([0.0, 0.5]))
        tensor([1.0000, 0.5000])
    """
    return 1 - (contrast + luminance).sub_(contrast * luminance)


class MeanSimilarity(torch.autograd.Function):
    """Mean deficits in contrast, and mean SSIM, of the pictures on a canvas, with the gradient in few operations.

    Example:
        >>> canvas, offset = torch.zeros(2, 1, 3, 16, 16), torch.ones(1, 2, 1, 3, 1, 1)
        >>> contrast, similarity = MeanSimilarity.apply(canvas, offset, (Place(0, 0, 16, 16),), (0,), 1.0)
        >>> contrast.shape, similarity.shape
        (torch.Size([1, 1, 3]), torch.Size([1, 1, 3]))
    """

    @staticmethod
    def forward(
        ctx: Any,
        canvas: Tensor,
        offsets: Tensor,
        places: tuple[Place, ...],
        compared: tuple[int, ...],
        data_range: float,
    ) -> tuple[Tensor, Tensor]:
        """Compare what lies on a canvas.

        Args:
            ctx: What the backward pass needs.
            canvas: Sums and differences of pictures without their mean, shape (2, N, C, H, W), of any value range.
            offsets: The means of those that are compared, shape (U, 2, N, C, 1, 1).
            places: T pictures on it.
            compared: Numbers of those U of them whose SSIM is wanted.
            data_range: The distance between black and white.

        Returns:
            Mean deficits in contrast, shape (T, N, C), and mean SSIM, shape (U, N, C).
        """
        mean, variance = local_moments(canvas, window)
        brightness = mean.clone()
        for number, offset in zip(compared, offsets.unbind(), strict=True):
            places[number].of(brightness).add_(offset)
        ctx.places, ctx.compared, ctx.constants = places, compared, tuple((k * data_range) ** 2 for k in (K1, K2))
        contrast = deficit_of(variance, ctx.constants[1])
        luminance = deficit_of(brightness.square(), ctx.constants[0])
        similarity = similarity_map(contrast, luminance)
        ctx.save_for_backward(canvas, brightness, mean, variance, contrast, luminance)
        return means(contrast, places), means(similarity, [places[number] for number in compared])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_contrasts: Tensor, of_similarities: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of the canvas, (2, N, C, H, W) of any value, from those of both results."""
        canvas, brightness, mean, variance, contrast, luminance = ctx.saved_tensors
        of_luminance_constant, of_contrast_constant = ctx.constants
        of_contrast, of_similarity = torch.zeros_like(contrast), torch.zeros_like(contrast)
        for whole, places, gradients in (
            (of_contrast, ctx.places, of_contrasts.unbind()),
            (of_similarity, [ctx.places[number] for number in ctx.compared], of_similarities.unbind()),
        ):
            for place, gradient in zip(places, gradients, strict=True):
                place.of(whole).add_(gradient[..., None, None], alpha=1 / math.prod(place.positions))
        # SSIM is (1 - contrast) (1 - luminance).
        of_contrast.addcmul_(of_similarity, 1 - luminance, value=-1)
        of_luminance = of_similarity.mul_(contrast - 1)
        of_variance = _deficit_gradient(of_contrast, contrast, variance, of_contrast_constant)
        of_squares = _deficit_gradient(of_luminance, luminance, brightness.square(), of_luminance_constant)
        of_mean = of_squares.mul_(brightness).addcmul_(mean, of_variance, value=-1).mul_(2)
        return spread(of_mean).addcmul_(canvas, spread(of_variance), value=2), None, None, None, None
