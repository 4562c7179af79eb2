"""Builds the networks of a benchmark, and runs each of them in the same way."""

from __future__ import annotations

import pickle
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from macr_plugin.archs.padding import crop_to_size, pad_to_multiple
from macr_plugin.archs.tiling import restore_in_tiles
from macr_plugin.benchmark.options import Entry, Tile
from macr_plugin.errors import InputError
from macr_plugin.models.acceleration import allow_tf32
from macr_plugin.models.multiscale_model import finest_first

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Where the files of the usual projects keep the weights, in order of preference.
PARAM_KEYS = ("params_ema", "params", "state_dict")


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


def build_restorer(entry: Entry, weights: Path | None = None) -> Restorer:
    """Build an entry's network, without gradients.

    Args:
        entry: The entry; it has a network.
        weights: File to load in place of the entry's own.

    Returns:
        The network in evaluation mode, in float32 on the CPU, padded and tiled as the entry demands.

    Raises:
        InputError: If the network cannot be built or the weights do not fit.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    if entry.network is None:
        raise InputError(f"{entry.label} has no network: give it one, such as network: {{type: MACR}}")
    options = {name: value for name, value in entry.network.items() if name != "type"}
    try:
        network = ARCH_REGISTRY.get(entry.network["type"])(**options)
    except TypeError as error:
        raise InputError(f"{entry.label}: network {entry.network['type']}: {error}") from error
    if weights is not None:
        load_weights(network, weights, entry.param_key)
    return Restorer(network, entry.size_multiple, entry.tile).eval().requires_grad_(False)


def load_weights(network: nn.Module, path: Path, param_key: str | None = None) -> None:
    """Load the weights of a checkpoint, of BasicSR or a plain state dict; every one of them must fit.

    Args:
        network: Gets the weights.
        path: The ``.pth`` file.
        param_key: Which weights of the file; by default the first of ``params_ema``, ``params`` and ``state_dict``
            that is there, else the file is taken for a state dict.

    Raises:
        InputError: If the file cannot be read or does not fit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}: give an existing .pth file") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"weights {path} are damaged or hold more than tensors: save them again") from error
    if param_key is not None and param_key not in content:
        raise InputError(f"weights {path} have no {param_key}: choose one of {', '.join(map(str, content))}")
    keys = [param_key] if param_key is not None else [key for key in PARAM_KEYS if key in content]
    state = content[keys[0]] if keys else content
    # DataParallel leaves its prefix in files saved without care.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"weights {path} do not fit {type(network).__name__}: {reason}: check its options") from error


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


def describe_inference(entry: Entry) -> str:
    """How an entry restores a frame, for people."""
    parts = ["full" if entry.tile is None else f"tile {entry.tile.size} overlap {entry.tile.overlap}"]
    if entry.tlc:
        parts.append("TLC")
    if entry.size_multiple > 1:
        parts.append(f"padded to {entry.size_multiple}")
    return ", ".join(parts)
