"""Image pyramids: one rule of sizes and one resampling for inputs, latents and targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from macr_plugin.archs.padding import is_symbolic


def scale_size(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Size of a picture at a coarser scale: each side halved ``scale`` times, rounded up.

    Args:
        size: Height and width at full resolution, in pixels.
        scale: 0 is full resolution, 1 is half, 2 is a quarter.

    Returns:
        ``ceil(H / 2**scale), ceil(W / 2**scale)``.

    Example:
        >>> scale_size((37, 50), 2)
        (10, 13)
    """
    height, width = size
    # Not -(-height // 2**scale): ONNX rounds the quotient of a negative number towards zero.
    return (height + 2**scale - 1) // 2**scale, (width + 2**scale - 1) // 2**scale


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample to a size, bilinearly, with an antialiasing filter if the picture shrinks.

    Args:
        image: Shape (N, C, H, W), floating, of any value range, which the result stays within.
        size: Height and width of the result.

    Returns:
        Shape (N, C, height, width); the very same tensor when it has that size already.

    Example:
        >>> resize(torch.rand(1, 3, 37, 50), (19, 25)).shape
        torch.Size([1, 3, 19, 25])
    """
    height, width = image.shape[-2:]
    if is_symbolic(image):
        return _resize_by_matrices(image, size)
    if (height, width) == tuple(size):
        return image
    # Where nothing shrinks the filter changes no value, but it has no deterministic gradient on a GPU.
    shrinks = size[0] < height or size[1] < width
    # The filter has no half precision on a CPU, and on a GPU would round its weights to it.
    source = image.to(torch.promote_types(image.dtype, torch.float32)) if shrinks else image
    resized = functional.interpolate(source, size=size, mode="bilinear", align_corners=False, antialias=shrinks)
    return resized.to(image.dtype)


def _resize_by_matrices(image: Tensor, size: tuple[int, int]) -> Tensor:
    """What :func:`resize` returns, for a graph of any size.

    Matrix products because onnxruntime's own antialiasing filter is another one: it is up to 0.05 off.
    """
    rows, columns = (_triangle_filter(image.shape[axis], size[axis], image) for axis in (-2, -1))
    return rows @ image @ columns.mT


def _triangle_filter(length: int, target: int, like: Tensor) -> Tensor:
    """Weights (target, length) of the pixels of a line in those of the resized line."""
    # Beyond 4000 px single precision would move the centres.
    pixels, centres = (torch.arange(side, device=like.device, dtype=torch.float64) + 0.5 for side in (length, target))
    distances = (centres[:, None] * length / target - pixels).abs()
    # Half the width of the triangle, in pixels.
    reach = (torch.ones_like(centres[:1]) * length / target).clamp(min=1)
    weights = (1 - distances / reach).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)


def image_pyramid(image: Tensor, num_scales: int) -> list[Tensor]:
    """Resample a picture to every scale, each directly from full resolution (section 2.1 of the paper).

    Args:
        image: Shape (N, C, H, W), floating, of any value range.
        num_scales: How many scales, full resolution included.

    Returns:
        ``num_scales`` pictures, finest first; the first is ``image`` itself.

    Example:
        >>> [tuple(picture.shape) for picture in image_pyramid(torch.rand(1, 3, 37, 50), 3)]
        [(1, 3, 37, 50), (1, 3, 19, 25), (1, 3, 10, 13)]
    """
    height, width = image.shape[-2:]
    return [resize(image, scale_size((height, width), scale)) for scale in range(num_scales)]
