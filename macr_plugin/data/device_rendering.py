"""Renders motion blur in torch, a batch at a time and on any device, as ``motion_blur.render_pair`` does on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from macr_plugin.data.motion_blur import Averaging, srgb_table


def with_rendered_blur(data: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Render the blurred pictures of a batch whose dataset leaves that to the device.

    Args:
        data: A batch. To be rendered are those with ``photo`` and ``path``, as
            :class:`~macr_plugin.data.synthetic_motion_blur_dataset.SyntheticMotionBlurDataset` gives them.
        device: Where to render.

    Returns:
        The batch with ``lq`` in it, uint8 on the device; any other batch unchanged.
    """
    if "photo" not in data:
        return data
    photo, path = (data[name].to(device, non_blocking=True) for name in ("photo", "path"))
    height, width = data["gt"].shape[-2:]
    # One dataset gives all pictures of a batch, and so with one averaging.
    return {**data, "lq": render_blur(photo, path, height, width, data["averaging"][0])}


@torch.no_grad()
def render_blur(
    photo: Tensor,
    path: Tensor,
    height: int,
    width: int,
    averaging: Averaging = "linear",
    subframes_at_once: int = 8,
) -> Tensor:
    """Render the blurred pictures of a batch.

    Args:
        photo: Shape (N, C, H, W), uint8, sRGB-encoded: the parts of the photographs that the cameras look at, with the
            margin of ``motion_blur.border_margin`` around each picture.
        path: Shape (N, sub-frames, 3): x and y of ``CameraPath.shift`` in pixels and ``CameraPath.roll`` in radians.
        height: Height of the pictures; they lie in the middle of ``photo``.
        width: Width of the pictures.
        averaging: What the sub-frames are averaged in.
        subframes_at_once: Bounds the memory: about 25 bytes a pixel of the batch for each of them.

    Returns:
        Shape (N, C, height, width), uint8, sRGB-encoded.
    """
    surroundings = _decode(photo, averaging)
    total = surroundings.new_zeros(*photo.shape[:2], height, width)
    for positions in path.to(surroundings).split(subframes_at_once, dim=1):
        grid = _sampling_grid(positions, height, width, photo.shape[-2], photo.shape[-1])
        # The sub-frames lie one below the other, so that the photograph is not copied for each.
        looks = grid_sample(surroundings, grid, mode="bicubic", padding_mode="zeros", align_corners=True)
        total += looks.unflatten(2, (positions.shape[1], height)).sum(2)
    return _encode(total / path.shape[1], averaging)


def _sampling_grid(positions: Tensor, height: int, width: int, photo_height: int, photo_width: int) -> Tensor:
    """Where each pixel of each sub-frame lies in the photograph, as ``grid_sample`` wants it.

    Plain sums and products: ``affine_grid`` multiplies matrices, which may be rounded to TF32.
    """
    shift_x, shift_y, roll = positions[..., None, None].unbind(2)
    cos, sin = roll.cos(), roll.sin()
    y = torch.arange(height, device=positions.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=positions.device) - (width - 1) / 2
    grid = torch.stack(
        (
            (cos * x - sin * y + shift_x) * (2 / (photo_width - 1)),
            (sin * x + cos * y + shift_y) * (2 / (photo_height - 1)),
        ),
        dim=-1,
    )
    return grid.flatten(1, 2)


def _decode(photo: Tensor, averaging: Averaging) -> Tensor:
    if averaging == "encoded":
        return photo.float() / 255
    return torch.from_numpy(srgb_table()).to(photo.device)[photo.int()]


def _encode(mean: Tensor, averaging: Averaging) -> Tensor:
    value = mean.clamp(0, 1)
    if averaging == "linear":
        value = torch.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return (255 * value).round().to(torch.uint8)
