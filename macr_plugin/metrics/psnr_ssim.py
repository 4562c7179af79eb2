"""PSNR and SSIM as published results report them: of pictures rounded to uint8, in batches, on any device.

The protocol is BasicSR's to the last digit that it prints: rounding as its ``tensor2img``, ``crop_border``, luma as
its ``bgr2ycbcr``, SSIM on values from 0 to 255 with a Gaussian window of 11 x 11 and sigma 1.5 where it fits, averaged
over the channels. :func:`ssim_3d` is the other SSIM in use, MATLAB's, which MPRNet, MIMO-UNet and NAFNet report for
GoPro; it comes out several hundredths higher on blurred frames, so that the two must never share a column.

On a CPU a picture is taken in strips of rows, whose intermediate results stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from macr_plugin.errors import InputError
from macr_plugin.metrics.gaussian_window import repeat_border
from macr_plugin.metrics.metric import Metric
from macr_plugin.metrics.structural_similarity import ssim, volume_ssim

WHITE = 255
WINDOW_SIZE = 11
#: Positions in a strip: the dozen maps of it that SSIM needs fill a cache of a few MB.
STRIP_PIXELS = 40_960


def to_uint8(pictures: Tensor) -> Tensor:
    """Round pictures as BasicSR's ``tensor2img`` does: clamped to [0, 1], halves to the even value.

    Args:
        pictures: Any shape; floating in [0, 1], or uint8, which is returned as it is.

    Returns:
        uint8, 0 to 255, of the same shape, on the device of the pictures.

    Example:
        >>> to_uint8(torch.tensor([-0.1, 0.5, 1.0]))
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    if pictures.dtype == torch.uint8:
        return pictures
    return pictures.detach().float().clamp(0, 1).mul_(WHITE).round_().to(torch.uint8)


def psnr(pictures: Tensor, sharp: Tensor, *, crop_border: int = 0, test_y_channel: bool = False) -> Tensor:
    """Peak signal-to-noise ratio over all channels, as BasicSR's ``calculate_psnr``.

    Args:
        pictures: Shape (N, C, H, W), RGB or grey; floating in [0, 1], or uint8.
        sharp: What they are compared with: the same shape, or one picture (1, C, H, W) for all of them.
        crop_border: Pixels cut off at each edge.
        test_y_channel: Compare the luma of YCbCr (ITU-R BT.601, 16 to 235) instead of RGB.

    Returns:
        Decibels of every picture, shape (N,), float64; infinite where the pictures are equal.

    Raises:
        InputError: If the shapes do not fit or nothing is left between the borders.

    Example:
        >>> psnr(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
        tensor([0.], dtype=torch.float64)
    """
    pictures, sharp = _prepare(pictures, sharp, crop_border)
    squared_error = _mean_over_strips(_squared_error, pictures, sharp, 1, test_y_channel)
    return 10 * torch.log10(WHITE**2 / squared_error)


def ssim_per_channel(pictures: Tensor, sharp: Tensor, *, crop_border: int = 0, test_y_channel: bool = False) -> Tensor:
    """SSIM of each channel, averaged, as BasicSR's ``calculate_ssim`` and ``tf.image.ssim``.

    Args:
        pictures: Shape (N, C, H, W), RGB or grey; floating in [0, 1], or uint8; at least 11 px on each side once the
            borders are cut off.
        sharp: As for :func:`psnr`.
        crop_border: As for :func:`psnr`.
        test_y_channel: As for :func:`psnr`.

    Returns:
        SSIM of every picture, shape (N,), float64, at most 1.

    Raises:
        InputError: As :func:`psnr`, and if a side is below 11 px.

    Example:
        >>> picture = torch.rand(1, 3, 16, 16)
        >>> ssim_per_channel(picture, picture)
        tensor([1.], dtype=torch.float64)
    """
    pictures, sharp = _prepare(pictures, sharp, crop_border)
    return _mean_over_strips(_strip_ssim, pictures, sharp, WINDOW_SIZE, test_y_channel)


def ssim_3d(pictures: Tensor, sharp: Tensor, *, crop_border: int = 0, test_y_channel: bool = False) -> Tensor:
    """SSIM of MATLAB's ``ssim`` on a colour picture: the window, 11 x 11 x 11, spans the channels.

    Beyond the border of the picture and beyond its first and last channel the last value is repeated, so that every
    pixel counts.

    Args:
        pictures: Shape (N, C, H, W), RGB or grey; floating in [0, 1], or uint8.
        sharp: As for :func:`psnr`.
        crop_border: As for :func:`psnr`.
        test_y_channel: As for :func:`psnr`.

    Returns:
        SSIM of every picture, shape (N,), float64, at most 1.

    Raises:
        InputError: As :func:`psnr`.

    Example:
        >>> picture = torch.rand(1, 3, 16, 16)
        >>> ssim_3d(picture, picture)
        tensor([1.], dtype=torch.float64)
    """
    pictures, sharp = (repeat_border(repeat_border(batch, -2), -1) for batch in _prepare(pictures, sharp, crop_border))
    return _mean_over_strips(_strip_volume_ssim, pictures, sharp, WINDOW_SIZE, test_y_channel)


def calculate_psnr_on_device(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int,
    input_order: str = "HWC",
    test_y_channel: bool = False,
    **kwargs: Any,
) -> float:
    """:func:`psnr` with the signature of BasicSR's metrics; on the GPU if there is one.

    Registered in BasicSR's ``METRIC_REGISTRY``, so that the ``val.metrics`` of its own models can name it.

    Args:
        img: Picture, uint8, 0 to 255, of shape (H, W, 3) BGR, (3, H, W) BGR or (H, W).
        img2: Picture to compare it with, of the same shape.
        crop_border: Pixels cut off at each edge.
        input_order: ``HWC`` or ``CHW``.
        test_y_channel: Compare luma instead of RGB.
        kwargs: Ignored, as BasicSR's metrics do.

    Returns:
        Decibels.

    Raises:
        InputError: If the pictures are not uint8, do not fit or are too small.

    Example:
        >>> calculate_psnr_on_device(np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8), crop_border=0)
        0.0
    """
    return _on_device(psnr, img, img2, crop_border, input_order, test_y_channel)


def calculate_ssim_on_device(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int,
    input_order: str = "HWC",
    test_y_channel: bool = False,
    **kwargs: Any,
) -> float:
    """:func:`ssim_per_channel` with the signature of BasicSR's metrics; on the GPU if there is one.

    Args:
        img: Picture, uint8, 0 to 255, of shape (H, W, 3) BGR, (3, H, W) BGR or (H, W).
        img2: As for :func:`calculate_psnr_on_device`.
        crop_border: As for :func:`calculate_psnr_on_device`.
        input_order: As for :func:`calculate_psnr_on_device`.
        test_y_channel: As for :func:`calculate_psnr_on_device`.
        kwargs: Ignored.

    Returns:
        SSIM, at most 1.

    Raises:
        InputError: As :func:`calculate_psnr_on_device`.

    Example:
        >>> picture = np.zeros((16, 16, 3), np.uint8)
        >>> calculate_ssim_on_device(picture, picture, crop_border=0)
        1.0
    """
    return _on_device(ssim_per_channel, img, img2, crop_border, input_order, test_y_channel)


def calculate_ssim_3d(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int,
    input_order: str = "HWC",
    test_y_channel: bool = False,
    **kwargs: Any,
) -> float:
    """:func:`ssim_3d` with the signature of BasicSR's metrics; on the GPU if there is one.

    Args:
        img: Picture, uint8, 0 to 255, of shape (H, W, 3) BGR, (3, H, W) BGR or (H, W).
        img2: As for :func:`calculate_psnr_on_device`.
        crop_border: As for :func:`calculate_psnr_on_device`.
        input_order: As for :func:`calculate_psnr_on_device`.
        test_y_channel: As for :func:`calculate_psnr_on_device`.
        kwargs: Ignored.

    Returns:
        SSIM, at most 1.

    Raises:
        InputError: As :func:`calculate_psnr_on_device`.

    Example:
        >>> picture = np.zeros((16, 16, 3), np.uint8)
        >>> calculate_ssim_3d(picture, picture, crop_border=0)
        1.0
    """
    return _on_device(ssim_3d, img, img2, crop_border, input_order, test_y_channel)


def _prepare(pictures: Tensor, sharp: Tensor, crop_border: int) -> tuple[Tensor, Tensor]:
    """Check, round and crop."""
    if pictures.ndim != 4 or sharp.shape not in (pictures.shape, (1, *pictures.shape[1:])):
        raise InputError(
            f"cannot compare pictures of shapes {tuple(pictures.shape)} and {tuple(sharp.shape)}: both must have the "
            "same shape (N, C, H, W), or the second be one picture"
        )
    height, width = pictures.shape[-2:]
    if min(height, width) <= 2 * crop_border:
        raise InputError(f"crop_border {crop_border} leaves nothing of a picture of {height}x{width} px: lower it")
    inside = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    return to_uint8(pictures[inside]).contiguous(), to_uint8(sharp[inside]).contiguous()


def _mean_over_strips(
    measure: Callable[[Tensor, Tensor], Tensor], pictures: Tensor, sharp: Tensor, window_size: int, luma: bool
) -> Tensor:
    """Average what a function of two strips of pictures, (N,), gives over all positions of its window, in float64."""
    height, width = pictures.shape[-2:]
    convert = _luma if luma and pictures.shape[1] == 3 else Tensor.float
    total = torch.zeros(len(pictures), dtype=torch.float64, device=pictures.device)
    positions = max(1, height - window_size + 1)
    for first, count in _strips(positions, width, pictures.device):
        rows = (..., slice(first, first + count + window_size - 1), slice(None))
        total += count * measure(convert(pictures[rows]), convert(sharp[rows]))
    return total / positions


def _luma(pictures: Tensor) -> Tensor:
    """Luma of uint8 RGB, float32 from 16 to 235, unrounded, with the intermediate types of BasicSR's conversion."""
    red, green, blue = (pictures.float() / WHITE).double().unbind(1)
    luma = (24.966 * blue + 128.553 * green + 65.481 * red + 16.0) / WHITE
    return luma.float().mul_(WHITE).unsqueeze(1)


def _strips(positions: int, width: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each strip; on other devices than CPUs one strip."""
    rows = max(1, STRIP_PIXELS // width) if device.type == "cpu" else positions
    return ((first, min(rows, positions - first)) for first in range(0, positions, rows))


def _squared_error(pictures: Tensor, sharp: Tensor) -> Tensor:
    # Differences of bytes and their squares are exact in float32, their sum is not.
    return (pictures - sharp).square_().mean((-3, -2, -1), dtype=torch.float64)


def _strip_ssim(pictures: Tensor, sharp: Tensor) -> Tensor:
    return ssim(pictures, sharp.expand_as(pictures), data_range=WHITE)


def _strip_volume_ssim(pictures: Tensor, sharp: Tensor) -> Tensor:
    return volume_ssim(pictures, sharp.expand_as(pictures), data_range=WHITE)


def _on_device(
    metric: Callable[..., Tensor],
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int,
    input_order: str,
    test_y_channel: bool,
) -> float:
    first, second = (_to_tensor(picture, input_order) for picture in (img, img2))
    return metric(first, second, crop_border=crop_border, test_y_channel=test_y_channel).item()


def _to_tensor(picture: np.ndarray, input_order: str) -> Tensor:
    """(1, C, H, W) uint8 RGB on the GPU, if there is one."""
    if picture.dtype != np.uint8:
        raise InputError(f"cannot measure a picture of type {picture.dtype}: round it to uint8, from 0 to 255")
    if input_order not in ("HWC", "CHW"):
        raise InputError(f"unknown input_order {input_order!r}: use HWC or CHW")
    planes = picture[None] if picture.ndim == 2 else picture
    if picture.ndim == 3 and input_order == "HWC":
        planes = picture.transpose(2, 0, 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.from_numpy(np.ascontiguousarray(planes[::-1])).to(device)[None]


def _unrounded_psnr(restored: Tensor, sharp: Tensor) -> Tensor:
    return -10 * torch.log10((restored.double() - sharp.double()).square().mean())


def _unrounded_ssim_3d(restored: Tensor, sharp: Tensor) -> Tensor:
    return volume_ssim(*(repeat_border(repeat_border(picture, -2), -1) for picture in (restored, sharp)))


PSNR = Metric(
    name="psnr",
    heading="PSNR",
    unit="dB",
    digits=2,
    measure=psnr,
    measure_unrounded=_unrounded_psnr,
    calculate=calculate_psnr_on_device,
    stock_type="calculate_psnr",
)
SSIM = Metric(
    name="ssim",
    heading="SSIM",
    digits=4,
    measure=ssim_per_channel,
    measure_unrounded=ssim,
    calculate=calculate_ssim_on_device,
    stock_type="calculate_ssim",
    note="SSIM is taken per channel",
)
SSIM_3D = Metric(
    name="ssim_3d",
    heading="SSIM 3D",
    digits=4,
    measure=ssim_3d,
    measure_unrounded=_unrounded_ssim_3d,
    calculate=calculate_ssim_3d,
    note="SSIM 3D with the window over the channels too",
)
