"""Measures how close restored frames come to the sharp ones, by a named protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from macr_plugin.benchmark.measuring.intervals import scene_interval
from macr_plugin.benchmark.options import Entry, Protocol, file_name
from macr_plugin.benchmark.results import FrameQuality, Quality
from macr_plugin.data.picture_files import write_png
from macr_plugin.errors import FREE_DISK_SPACE
from macr_plugin.inference.restorer import Restorer, arithmetic
from macr_plugin.metrics import metric_table
from macr_plugin.metrics.metric import Metric
from macr_plugin.metrics.psnr_ssim import to_uint8
from macr_plugin.models.acceleration import DTYPES, best_acceleration
from macr_plugin.models.memory_layout import lay_out
from macr_plugin.models.validation import to_picture


def protocol_id(entry: Entry, protocol: Protocol, blur: str) -> str:
    """Name how the quality of an entry is measured.

    Figures with different names must not be compared. The parts are: the blurred version; ``full`` frames or tiles with
    their size and overlap, and ``-tlc`` where global pooling was made local; ``uint8`` or ``float``; ``rgb`` or ``y``;
    the width of a border that was cut off, if any; ``mean`` over all frames.

    Args:
        entry: Tells how frames are restored.
        protocol: Tells how they are compared.
        blur: ``blur`` or ``blur_gamma``.

    Returns:
        Such as ``blur/full/uint8/rgb/mean`` or ``blur_gamma/tile512-32/uint8/y/border4/mean``.
    """
    frame = "full" if entry.tile is None else f"tile{entry.tile.size}-{entry.tile.overlap}"
    parts = [
        blur,
        frame + "-tlc" * entry.tlc,
        protocol.rounding,
        "y" if protocol.test_y_channel else "rgb",
        *([f"border{protocol.crop_border}"] if protocol.crop_border else []),
        "mean",
    ]
    return "/".join(parts)


def measure_frames(
    restore: Callable[[Tensor], Tensor],
    dataset: Dataset[Any],
    protocol: Protocol,
    device: torch.device,
    workers: int = 0,
    pictures: Mapping[str, Path] | None = None,
    description: str = "",
) -> list[FrameQuality]:
    """Restore and measure every frame of a data set.

    Args:
        restore: Maps blurred pictures, (1, 3, H, W) float32 RGB in [0, 1] on the device, to restored ones.
        dataset: Gives ``lq`` and ``gt``, (3, H, W) uint8 RGB, and ``lq_path``, the key of the frame.
        protocol: How a restored frame is compared.
        device: Where it is restored.
        workers: Processes that read frames ahead.
        pictures: Where the restored frames of some keys are written, as PNG.
        description: In front of the progress bar.

    Returns:
        Each frame, in the order of the data set.
    """
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, pin_memory=device.type == "cuda")
    frames = []
    for data in tqdm(loader, desc=description, unit="frame", leave=False):
        key = data["lq_path"][0]
        blurred, sharp = (data[name].to(device, non_blocking=True).float() / 255 for name in ("lq", "gt"))
        restored = restore(blurred).float().clamp(0, 1)
        frames.append(compare(key, restored, sharp, protocol))
        if pictures and key in pictures:
            write_restored(restored, pictures[key])
    return frames


def restore_with(restorer: Restorer, entry: Entry, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Run a network in an entry's precision: weights and pictures have that type.

    Args:
        restorer: The network; it is moved to the device.
        entry: Names the precision.
        device: Where it runs.

    Returns:
        Maps float32 pictures (N, 3, H, W), RGB in [0, 1], to restored ones.
    """
    dtype, layout = DTYPES[entry.precision], best_acceleration(device).memory_format
    restorer.to(device=device, dtype=dtype)
    lay_out(restorer, layout)

    def restore(blurred: Tensor) -> Tensor:
        with torch.no_grad(), arithmetic(entry.precision):
            return restorer(blurred.to(dtype, memory_format=layout))

    return restore


def compare(key: str, restored: Tensor, sharp: Tensor, protocol: Protocol) -> FrameQuality:
    """Compare a frame with the sharp one.

    Args:
        key: ``scene/frame``.
        restored: Shape (1, 3, H, W), RGB in [0, 1].
        sharp: Likewise.
        protocol: How.
    """
    values = [_measure(metric, restored, sharp, protocol).double().reshape(()) for metric in metric_table.METRICS]
    # All in one transfer from the device.
    figures = torch.stack(values).tolist()
    return FrameQuality(key, {metric.name: value for metric, value in zip(metric_table.METRICS, figures, strict=True)})


def _measure(metric: Metric, restored: Tensor, sharp: Tensor, protocol: Protocol) -> Tensor:
    border = protocol.crop_border
    if protocol.rounding == "uint8":
        return metric.measure(restored, sharp, crop_border=border, test_y_channel=protocol.test_y_channel)
    height, width = sharp.shape[-2:]
    inside = (..., slice(border, height - border), slice(border, width - border))
    return metric.measure_unrounded(restored[inside], sharp[inside])


def write_extra_pictures(network: nn.Module, picture: Tensor, folder: Path) -> None:
    """Write what a network shows beside the restored picture, if it shows anything.

    Args:
        network: May have a method ``extra_pictures``, which takes a blurred picture (1, 3, H, W) in the network's
            precision and returns a name and a picture (1, 3, H', W') for each, both RGB in [0, 1].
        picture: Blurred picture, shape (1, 3, H, W), float32, RGB in [0, 1].
        folder: Where ``<name>.png`` is written.
    """
    show = getattr(network, "extra_pictures", None)
    if not callable(show):
        return
    dtype = next((parameter.dtype for parameter in network.parameters()), picture.dtype)
    with torch.no_grad():
        for name, extra in show(picture.to(dtype)).items():
            write_restored(extra, folder / f"{file_name(name)}.png")


def summarise(protocol: str, frames: list[FrameQuality]) -> Quality:
    """Average the frames, with intervals over scenes.

    Args:
        protocol: Id of the protocol.
        frames: Each frame.
    """
    keys = [frame.key for frame in frames]
    figures = {name: scene_interval([frame.figures[name] for frame in frames], keys) for name in frames[0].figures}
    return Quality(protocol, figures, frames)


def write_restored(picture: Tensor, path: Path) -> None:
    """Write a picture as PNG, atomically.

    Args:
        picture: Shape (1, 3, H, W), RGB in [0, 1].
        path: Where; missing folders are made.
    """
    write_png(to_picture(to_uint8(picture)), path, FREE_DISK_SPACE)
