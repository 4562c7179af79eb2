"""Runs any network as a map from a picture to one of the same size: device, precision, padding, tiles."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from macr_plugin.archs.padding import crop_to_size, pad_to_multiple
from macr_plugin.archs.tiling import Tile, restore_in_tiles
from macr_plugin.errors import InputError
from macr_plugin.models.acceleration import allow_tf32
from macr_plugin.models.multiscale_model import finest_first

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Restorer(nn.Module):
    """A network of any kind as a map from a picture to one of the same size.

    Args:
        network: Returns one picture, or a pyramid in any order.
        size_multiple: What height and width are padded to.
        tile: Cut the picture into tiles.

    Shape:
        (N, 3, H, W) -> (N, 3, H, W)
    """

    def __init__(self, network: nn.Module, size_multiple: int = 1, tile: Tile | None = None) -> None:
        super().__init__()
        self.network = network
        self.size_multiple = size_multiple
        self.tile = tile

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch of pictures."""
        if self.tile is None:
            return self._restore(x)
        return restore_in_tiles(self._restore, x, self.tile.size, self.tile.overlap)

    def _restore(self, x: Tensor) -> Tensor:
        output = self.network(pad_to_multiple(x, self.size_multiple))
        finest = output if isinstance(output, Tensor) else finest_first(output)[0]
        return crop_to_size(finest, (x.shape[-2], x.shape[-1]))


def find_device(name: str) -> torch.device:
    """Find a device by its name in the options.

    Args:
        name: ``auto``, ``cuda`` or ``cpu``.

    Raises:
        InputError: If there is no GPU where one is named.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("devices: cuda asks for a GPU and torch sees none: set auto or cpu, or mend the driver")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Full name of a device; for a processor with the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Allow TF32 for ``tf32`` and for nothing else, and restore what was allowed before.

    Args:
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
    """
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
