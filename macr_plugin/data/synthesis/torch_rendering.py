"""Renders motion blur in torch, a batch at a time and on any device, as ``rendering.render_pair`` does on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from macr_plugin.data.synthesis.blur_model import BlurModel, Shot
from macr_plugin.data.synthesis.response import GAMMA, HIGHLIGHT_KNEE, Averaging, response_table
from macr_plugin.data.synthesis.sensor import noise_variances

#: Entries of a batch that go to the device.
RENDERED_FROM = frozenset({"photo", "homographies", "translation", "inverse_depth", "object", "object_shift"})


def for_device(photo: np.ndarray, shot: Shot, margin: int, model: BlurModel) -> dict[str, Any]:
    """Turn a shot into what a batch is collated from, for :func:`with_rendered_blur`.

    Args:
        photo: uint8 array (height, width, 3), BGR: what the camera looks at, with a margin around the picture.
        shot: How it is taken, without JPEG.
        margin: Pixels on each side.
        model: What the shots of the batch are drawn from: all of them have the same entries.

    Returns:
        ``photo``, uint8 tensor (3, height, width), RGB; ``homographies``, float32 (sub-frames, 3, 3), and
        ``translation``, float32 (sub-frames, 2), as :class:`~.paths.CameraPath` has them; ``noise``, float32 (2,),
        photon and read noise; ``noise_seed``; ``averaging``; if the model has depth ``inverse_depth``, float32 of the
        size of the picture; and if it has things that move on their own ``object``, uint8 (4, height, width), RGB and
        alpha, with ``object_shift``, float32 (sub-frames, 2).
    """
    height, width = photo.shape[0] - 2 * margin, photo.shape[1] - 2 * margin
    data: dict[str, Any] = {
        "photo": _channels_first(photo[..., ::-1]),
        "homographies": torch.from_numpy(shot.path.homographies().astype(np.float32)),
        "translation": torch.from_numpy(shot.path.translation.astype(np.float32)),
        "noise": torch.tensor([shot.sensor.photon_noise, shot.sensor.read_noise]),
        "noise_seed": torch.tensor(shot.sensor.noise_seed),
        "averaging": shot.averaging,
    }
    if model.depth != ("flat",):
        depth = np.ones((height, width), np.float32) if shot.inverse_depth is None else shot.inverse_depth
        data["inverse_depth"] = torch.from_numpy(depth)
    if model.object_share:
        empty = np.zeros((*photo.shape[:2], 4), np.uint8)
        canvas = shot.moving.canvas(height, width, margin) if shot.moving else empty
        shift = shot.moving.shift if shot.moving else np.zeros_like(shot.path.shift)
        data["object"] = _channels_first(canvas[..., [2, 1, 0, 3]])
        data["object_shift"] = torch.from_numpy(shift.astype(np.float32))
    return data


def with_rendered_blur(data: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Render the blurred pictures of a batch whose dataset leaves that to the device.

    Args:
        data: A batch. To be rendered are those with ``photo`` and the rest of what :func:`for_device` gives, collated.
        device: Where to render.

    Returns:
        The batch with ``lq`` in it, uint8 on the device; any other batch unchanged.
    """
    if "photo" not in data:
        return data
    height, width = data["gt"].shape[-2:]
    return {**data, "lq": render_blur(data, height, width, device)}


@torch.no_grad()
def render_blur(
    data: dict[str, Any], height: int, width: int, device: torch.device, subframes_at_once: int = 8
) -> Tensor:
    """Render the blurred pictures of a batch.

    Args:
        data: What :func:`for_device` gives, collated to a batch of N.
        height: Height of the pictures; they lie in the middle of ``photo``.
        width: Width of the pictures.
        device: Where to render.
        subframes_at_once: Bounds the memory: about 40 bytes a pixel of the batch for each of them.

    Returns:
        Shape (N, 3, height, width), uint8 RGB, on the device.
    """
    on_device = {name: value.to(device, non_blocking=True) for name, value in data.items() if name in RENDERED_FROM}
    photo, homographies, translation = (on_device[name] for name in ("photo", "homographies", "translation"))
    averaging: Sequence[Averaging] = data["averaging"]
    surroundings = _decode(photo, averaging)
    depth = on_device.get("inverse_depth", surroundings.new_ones(1, 1, 1))
    things = _thing_in_front(on_device["object"], averaging) if "object" in on_device else None
    still = torch.eye(3, device=device).expand(*homographies.shape)
    total = surroundings.new_zeros(*photo.shape[:2], height, width)
    for start in range(0, homographies.shape[1], subframes_at_once):
        part = slice(start, start + subframes_at_once)
        looks = _look(surroundings, homographies[:, part], translation[:, part], depth, (height, width), "bicubic")
        if things is not None:
            shift = on_device["object_shift"][:, part]
            front = _look(things, still[:, part], shift, torch.ones_like(depth[:, :1, :1]), (height, width), "bilinear")
            looks = looks * (1 - front[:, 3:]) + front[:, :3]
        total += looks.sum(2)
    light = total / homographies.shape[1]
    samples = zip(light, averaging, data["noise"].tolist(), data["noise_seed"].tolist(), strict=True)
    return torch.stack([_encode(_with_noise(one, name, noise, seed), name) for one, name, noise, seed in samples])


def _look(
    surroundings: Tensor, homographies: Tensor, translation: Tensor, depth: Tensor, size: tuple[int, int], mode: str
) -> Tensor:
    """Some sub-frames, shape (N, C, sub-frames, height, width)."""
    grid = _sampling_grid(homographies, translation, depth, size, (surroundings.shape[-2], surroundings.shape[-1]))
    # The sub-frames lie one below the other, so that the photograph is not copied for each.
    looks = grid_sample(surroundings, grid, mode=mode, padding_mode="zeros", align_corners=True)
    return looks.unflatten(2, (homographies.shape[1], size[0]))


def _sampling_grid(
    homographies: Tensor, translation: Tensor, depth: Tensor, size: tuple[int, int], photo_size: tuple[int, int]
) -> Tensor:
    """Where each pixel of each sub-frame lies in the photograph, as ``grid_sample`` wants it.

    Plain sums and products: ``affine_grid`` multiplies matrices, which may be rounded to TF32.
    """
    y = torch.arange(size[0], device=depth.device)[:, None] - (size[0] - 1) / 2
    x = torch.arange(size[1], device=depth.device) - (size[1] - 1) / 2
    rows = [
        row[..., 0, None, None] * x + row[..., 1, None, None] * y + row[..., 2, None, None]
        for row in homographies.unbind(2)
    ]
    grid = torch.stack(
        [
            (place / rows[2] + shift[..., None, None] * depth[:, None]) * (2 / (side - 1))
            for place, shift, side in zip(rows, translation.unbind(2), reversed(photo_size), strict=False)
        ],
        dim=-1,
    )
    return grid.flatten(1, 2)


def _with_noise(light: Tensor, averaging: Averaging, noise: Sequence[float], seed: int) -> Tensor:
    if not any(noise):
        return light
    generator = torch.Generator(light.device).manual_seed(seed)
    photon, read = noise_variances(noise[0], noise[1], averaging)
    spread = (photon * light.clamp(min=0) + read).sqrt()
    return light + spread * torch.randn(light.shape, generator=generator, device=light.device)


def _decode(photo: Tensor, averaging: Sequence[Averaging]) -> Tensor:
    return torch.stack([_table_on(photo.device, name)[one.int()] for name, one in zip(averaging, photo, strict=True)])


@functools.cache
def _table_on(device: torch.device, averaging: Averaging) -> Tensor:
    """A response table on a device, copied once: the host waits for a copy from memory that is not pinned."""
    return torch.from_numpy(response_table(averaging)).to(device)


def _thing_in_front(canvas: Tensor, averaging: Sequence[Averaging]) -> Tensor:
    """Light times alpha, and alpha."""
    alpha = canvas[:, 3:].float() / 255
    return torch.cat((_decode(canvas[:, :3], averaging) * alpha, alpha), dim=1)


def _encode(light: Tensor, averaging: Averaging) -> Tensor:
    if averaging == "highlights":
        room = 1 - HIGHLIGHT_KNEE
        shoulder = 1 - room * ((HIGHLIGHT_KNEE - light.clamp(min=HIGHLIGHT_KNEE)) / room).exp()
        light = torch.where(light > HIGHLIGHT_KNEE, shoulder, light)
    value = light.clamp(0, 1)
    if averaging == "gamma2.2":
        value = value ** (1 / GAMMA)
    elif averaging != "encoded":
        value = torch.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return (255 * value).round().to(torch.uint8)


def _channels_first(picture: np.ndarray) -> Tensor:
    """Shape (height, width, channels) becomes (channels, height, width)."""
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())
