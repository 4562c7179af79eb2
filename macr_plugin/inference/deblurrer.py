"""Deblurs pictures with trained weights, whatever their size and depth, within the memory that is there."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import basicsr  # noqa: F401  registers the plugin's networks
import numpy as np
import torch
from torch import Tensor, nn

from macr_plugin.archs.contract import minimum_size_of
from macr_plugin.archs.padding import crop_to_size, pad_to_multiple
from macr_plugin.archs.tiling import Tile, restore_in_tiles, tile_starts
from macr_plugin.errors import InputError
from macr_plugin.inference.memory import is_out_of_memory, release_memory
from macr_plugin.inference.optimize import optimize
from macr_plugin.inference.pictures import Picture, read_picture, write_picture
from macr_plugin.inference.restorer import Restorer, arithmetic, find_device, find_size_multiple
from macr_plugin.inference.tile_plan import (
    LARGEST_TILE,
    SMALLEST_TILE,
    bytes_per_pixel,
    largest_side,
    plan_tiles,
    receptive_radius,
)
from macr_plugin.inference.trained_network import load_network
from macr_plugin.models.acceleration import Acceleration, best_acceleration
from macr_plugin.models.memory_layout import lay_out

Image = TypeVar("Image", np.ndarray, Tensor)
#: Called with the number of tiles that are done and of all; it starts over where memory runs out.
Progress = Callable[[int, int], object]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DEFAULT_WEIGHTS = "macr-small"
#: The eight ways to mirror and turn a picture: whether it is mirrored, and its quarter turns.
TURNS = [(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]

logger = logging.getLogger(__name__)


class Deblurrer:
    """Deblurs pictures with trained weights.

    Args:
        weights: Name of shipped weights, a ``.pth`` or ``.safetensors`` file, or the folder of a training, such as
            ``experiments/my_run``. Any network of BasicSR's registry.
        device: ``auto``, ``cuda``, ``cuda:N`` or ``cpu``.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` for the fastest that the device has instructions for.
        tile: Side of the tiles that a larger picture is cut into, in pixels; 0 for none; ``auto`` for the largest that
            fits into the free memory. Where memory runs out, tiles are halved and the picture is restored once more.
        ensemble: Restore the picture mirrored and turned in eight ways and average the results: eight times the time.

    Attributes:
        network: The network, an ``nn.Module``.
        device: Where it runs.
        precision: What it runs in, never ``auto``.

    Raises:
        InputError: If the weights or the device are not available, or the device lacks the precision.
    """

    def __init__(
        self,
        weights: str | Path = DEFAULT_WEIGHTS,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
        ensemble: bool = False,
    ) -> None:
        if tile != "auto" and (isinstance(tile, str) or tile < 0):
            raise InputError(f"--tile {tile}: give auto, 0 for the whole picture, or the side of a tile in pixels")
        self.device = find_device(device)
        self._acceleration = _acceleration(precision, self.device)
        self.precision = self._acceleration.precision or "fp32"
        self.network = lay_out(load_network(weights).to(self.device), self._memory_format)
        # At multiples of the smallest size a tile's pyramid has its pixels where that of the whole picture has them.
        self.size_multiple = minimum_size_of(self.network) or find_size_multiple(self.network, self.device)
        self._restorer = Restorer(self._optimized_network(), self.size_multiple).eval()
        self._tile = tile
        self._largest_tile: int | None = None
        self._radius: int | None = None
        self._bytes_per_pixel: float | None = None
        self.ensemble = ensemble

    def restore(self, image: Image, progress: Progress | None = None) -> Image:
        """Deblur a picture.

        Args:
            image: An array (H, W, 3), RGB, uint8, uint16 or floating in [0, 1]; or a tensor (N, 3, H, W), RGB, floating
                in [0, 1].
            progress: Called after each tile with the number of those done and of all.

        Returns:
            The same kind, size and type, on the same device.

        Raises:
            InputError: If it is none of these, or memory is too small even for the smallest tile.
        """
        if isinstance(image, Tensor):
            if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point() or not image.numel():
                raise InputError(
                    f"a tensor of {image.dtype} {tuple(image.shape)}: give (N, 3, H, W), floating, in [0, 1]"
                )
            size = (image.shape[-2], image.shape[-1])
            restored = self._restore(pad_to_multiple(image, self.size_multiple), progress)
            return crop_to_size(restored, size).to(image.device, image.dtype)
        _check_array(image)
        height, width = image.shape[:2]
        bottom, right = (-side % self.size_multiple for side in (height, width))
        padded = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else image
        restored = self._restore(torch.from_numpy(_scaled(padded)).permute(2, 0, 1)[None], progress)[0]
        restored = crop_to_size(restored, (height, width)).permute(1, 2, 0)
        if image.dtype.kind == "f":
            return restored.numpy().astype(image.dtype)
        largest = np.iinfo(image.dtype).max
        return np.ascontiguousarray(restored.mul_(largest).round_().numpy().astype(image.dtype))

    def restore_file(self, source: str | Path, target: str | Path) -> Picture:
        """Deblur a picture file.

        Args:
            source: A PNG, JPEG, WebP, TIFF or BMP file.
            target: What to write; its suffix says in which format. Missing folders are made.

        Returns:
            What was written, (H, W, 3), uint8 or uint16 as the source; its ``notes`` tell what could not be kept.

        Raises:
            InputError: If a file cannot be read or written, or is the same.
        """
        source, target = Path(source), Path(target)
        if target.exists() and target.samefile(source):
            raise InputError(f"{target} is the source itself: choose another name for the result")
        restored = self.restore_picture(read_picture(source))
        write_picture(restored, target)
        return restored

    def restore_picture(self, picture: Picture, progress: Progress | None = None) -> Picture:
        """Deblur a picture that was read from a file.

        Args:
            picture: (H, W, 3), RGB, uint8 or uint16; its alpha channel and its metadata stay.
            progress: As for :meth:`restore`.
        """
        return dataclasses.replace(picture, pixels=self.restore(picture.pixels, progress))

    def _restore(self, image: Tensor, progress: Progress | None) -> Tensor:
        """Restore (N, 3, H, W), uint8 or floating, of any device, in tiles that fit: floating in [0, 1]."""
        side = max(image.shape[-2:])
        while True:
            size = self._tile_size(image.shape[-2] * image.shape[-1], side)
            try:
                return self._restore_in_tiles(image, size, progress or (lambda done, tiles: None))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failed = min(size, side)
            # Outside the handler: its error holds on to the tensors that did not fit.
            smaller = failed // 2 // self.size_multiple * self.size_multiple
            if smaller < max(SMALLEST_TILE, self.size_multiple):
                raise InputError(
                    f"memory does not suffice for tiles of {failed} px: close other programs, or use a smaller network"
                )
            logger.warning("out of memory with %d px at once: going on in tiles of %d px", failed, smaller)
            self._largest_tile = smaller
            release_memory(self.device)

    def _tile_size(self, pixels: int, side: int) -> int:
        """Side of the tiles for a picture; no smaller than the picture if that goes in one piece."""
        if self._tile == "auto":
            if self._bytes_per_pixel is None:
                self._bytes_per_pixel = bytes_per_pixel(self._restore_tile, self.device, max(128, self.size_multiple))
            allowed = largest_side(self._bytes_per_pixel, self.device)
            if allowed**2 < pixels:
                # What is kept for the next picture counts as used.
                release_memory(self.device)
                allowed = largest_side(self._bytes_per_pixel, self.device)
            size = side if allowed**2 >= pixels else min(allowed, LARGEST_TILE)
        else:
            size = self._tile or side
        return min(size, self._largest_tile or size)

    def _restore_in_tiles(self, image: Tensor, size: int, progress: Progress) -> Tensor:
        whole = size >= max(image.shape[-2:])
        tile = Tile(max(image.shape[-2:]), 0) if whole else self.tiles(size)
        tiles = math.prod(len(tile_starts(side, tile.size, tile.overlap)) for side in image.shape[-2:])
        numbers = itertools.count(1)

        def restore(piece: Tensor) -> Tensor:
            restored = self._restore_tile(piece).to(image.device)
            progress(next(numbers), tiles)
            return restored

        progress(0, tiles)
        return restore_in_tiles(restore, image, tile.size, tile.overlap, tile.margin)

    def tiles(self, size: int) -> Tile:
        """Tiles of a size that give what the whole picture would, as far as they can.

        Args:
            size: Wished side in pixels.
        """
        if self._radius is None:
            try:
                with arithmetic("fp32"):
                    self._radius = receptive_radius(self._restorer, self.device)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # The probe is as large as a tile of 313 px: smaller tiles may still fit, with their widest margins.
                return plan_tiles(size, size, self.size_multiple)
        return plan_tiles(size, self._radius, self.size_multiple)

    @torch.no_grad()
    def _restore_tile(self, tile: Tensor) -> Tensor:
        """Restore a piece of a picture, (N, 3, h, w), on the device: float32 in [0, 1]."""
        x = tile.to(self.device)
        x = x.float() if x.is_floating_point() else x.float().div_(255)
        x = x.contiguous(memory_format=self._memory_format)
        with arithmetic(self.precision), self._acceleration.autocast(self.device):
            restored = self._restore_turned(x) if self.ensemble else self._restorer(x).float()
        if self.precision != "fp32" and not torch.isfinite(restored).all():
            raise InputError(f"{self.precision} does not hold the network's values: choose --precision fp32")
        return restored.clamp_(0, 1)

    @torch.no_grad()
    def _optimized_network(self) -> nn.Module:
        """The network as it runs fastest; on a CPU that differs in bf16 only from how it is laid out already."""
        on_gpu = self.device.type == "cuda"
        if not on_gpu and self.precision != "bf16":
            return self.network
        # A processor has one way, which is not timed.
        side = max(256 if on_gpu else 64, self.size_multiple)
        example = torch.rand(1, 3, side, side, device=self.device).contiguous(memory_format=self._memory_format)
        with arithmetic(self.precision), self._acceleration.autocast(self.device):
            try:
                return optimize(self.network.eval(), example)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
        # Smaller tiles than the example may still fit.
        return self.network

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self._acceleration.channels_last else torch.contiguous_format

    def _restore_turned(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for mirrored, quarters in TURNS:
            turned = torch.rot90(x.flip(-1) if mirrored else x, quarters, (-2, -1))
            restored = torch.rot90(self._restorer(turned).float(), -quarters, (-2, -1))
            total += restored.flip(-1) if mirrored else restored
        return total / len(TURNS)


def _acceleration(precision: str, device: torch.device) -> Acceleration:
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type != "cuda":
        raise InputError("--precision fp16 needs an NVIDIA GPU: choose auto, fp32 or bf16")
    best = best_acceleration(device)
    return dataclasses.replace(best, precision=best.precision if precision == "auto" else precision)  # type: ignore[arg-type]


def _check_array(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise InputError(f"an array of shape {image.shape}: give (H, W, 3), RGB")
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise InputError(f"an array of {image.dtype}: give uint8, uint16, or floating in [0, 1]")


def _scaled(image: np.ndarray) -> np.ndarray:
    """An array as torch takes it: bytes as they are, which a tile makes floating, all else float32 in [0, 1]."""
    image = np.ascontiguousarray(image)
    if image.dtype == np.uint8:
        return image if image.flags.writeable else image.copy()
    scale = np.float32(65535) if image.dtype == np.uint16 else np.float32(1)
    return np.divide(image, scale, dtype=np.float32)
