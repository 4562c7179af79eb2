"""Runs any network as a map from a picture to one of the same size: device, precision, padding, tiles."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from macr_plugin.archs.padding import crop_to_size, pad_to_multiple
from macr_plugin.archs.tiling import Tile, restore_in_tiles
from macr_plugin.errors import InputError
from macr_plugin.models.acceleration import allow_tf32
from macr_plugin.models.network_output import finest


class Restorer(nn.Module):
    """A network of any kind as a map from a picture to one of the same size.

    Args:
        network: Returns one picture, or a pyramid in any order.
        size_multiple: What height and width are padded to.
        tile: Cut the picture into tiles.

    Shape:
        (N, 3, H, W) -> (N, 3, H, W)

    Raises:
        InputError: When it is called, if the network returns another size than it got.
    """

    def __init__(self, network: nn.Module, size_multiple: int = 1, tile: Tile | None = None) -> None:
        super().__init__()
        self.network = network
        self.size_multiple = size_multiple
        self.tile = tile

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch of pictures (N, 3, H, W), RGB in [0, 1]."""
        if self.tile is None:
            return self._restore(x)
        return restore_in_tiles(self._restore, x, self.tile.size, self.tile.overlap, self.tile.margin)

    def _restore(self, x: Tensor) -> Tensor:
        padded = pad_to_multiple(x, self.size_multiple)
        restored = finest(self.network(padded))
        if restored.shape != padded.shape:
            raise InputError(
                f"{type(self.network).__name__} returns {describe_shape(restored)} for {describe_shape(padded)}: "
                "a network that deblurs returns the size that it gets"
            )
        return crop_to_size(restored, (x.shape[-2], x.shape[-1]))


def describe_shape(pictures: Tensor) -> str:
    """Write the size of a batch (N, C, H, W) of any value for a message, such as ``64x32 px in 3 channels``."""
    channels, height, width = pictures.shape[-3:]
    return f"{width}x{height} px in {channels} channels"


def build_network(options: Mapping[str, Any], user: str) -> nn.Module:
    """Build a network of BasicSR's registry with initial weights.

    Args:
        options: ``type`` and the arguments of its class, as ``network_g`` of an option file.
        user: Whose network it is, for messages.

    Raises:
        InputError: If there is no such network, or it does not take the arguments.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    name, arguments = options["type"], {key: value for key, value in options.items() if key != "type"}
    try:
        return ARCH_REGISTRY.get(name)(**arguments)
    except KeyError as error:
        raise InputError(f"{user}: no network is registered as {name}: import the file that registers it") from error
    except TypeError as error:
        raise InputError(f"{user}: network {name}: {error}") from error


@torch.no_grad()
def find_size_multiple(network: nn.Module, device: torch.device) -> int:
    """Find by trial what height and width must be divisible by, for a network that does not say.

    Args:
        network: Any network.
        device: Where it is.

    Returns:
        A power of two up to 64.

    Raises:
        InputError: If the network takes none of these sizes.
    """
    for exponent in range(7):
        multiple = 2**exponent
        size = (64 + multiple, 128 + multiple)
        try:
            Restorer(network, multiple)(torch.zeros(1, 3, *size, device=device))
        # What a size does to a network differs from one to the next.
        except (RuntimeError, AssertionError, ValueError) as error:
            refused = " ".join(str(error).split())
        else:
            return multiple
    raise InputError(f"{type(network).__name__} maps no picture to one of its size ({refused}): check its options")


def find_device(name: str) -> torch.device:
    """Find a device by its name in the options.

    Args:
        name: ``auto``, ``cuda``, ``cuda:N`` or ``cpu``.

    Raises:
        InputError: If there is no GPU where one is named, or no such device.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("devices: cuda asks for a GPU and torch sees none: set auto or cpu, or repair the driver")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise InputError(f"devices: there is no {name}: choose auto, cuda or cpu") from error


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
