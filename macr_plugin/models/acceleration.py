"""Chooses how networks run on a device: precision, memory layout, ``torch.compile`` and CUDA graphs.

:func:`choose_acceleration` turns ``train.acceleration`` of the options into an :class:`Acceleration`, by which a
:class:`~macr_plugin.models.training_step.TrainingStep` runs. Without that block nothing here changes what PyTorch does
by default.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.utils._triton import has_triton_package

from macr_plugin.errors import InputError
from macr_plugin.options.precision import PRECISIONS, Precision

Losses = Mapping[str, Tensor]

#: Type of weights and pictures that are wholly in a precision.
DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
#: Turing cards without tensor cores, the paper's GTX 1660 Ti among them: their half precision convolutions are slow and
#: known to give NaN. By name: they report the compute capability of those with tensor cores.
_WITHOUT_TENSOR_CORES = re.compile(r"GTX 16\d\d|\bT(400|500|550|600|1000|1200|2000)\b|\bMX[45]\d\d\b")
#: Compute capabilities from which on there are tensor cores, and Triton makes kernels.
_TENSOR_CORES_FROM, _TRITON_FROM = (7, 0), (7, 0)


@dataclass(frozen=True)
class Acceleration:
    """How a training step runs; the default is what PyTorch does by itself.

    Attributes:
        precision: ``fp32`` turns TF32 off, ``tf32`` turns it on, ``bf16`` and ``fp16`` run the network in autocast,
            ``fp16`` with a scaled loss. None leaves PyTorch's own settings alone. Losses are computed in at least
            float32 regardless, and weights stay float32.
        channels_last: Lay pictures and weights out channels last.
        compile: Compile network and losses together with ``torch.compile``.
        cuda_graph: Capture the whole step, averaging of weights included, and replay it with one launch.
    """

    precision: Precision | None = None
    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of pictures and weights; ``preserve_format`` stands for the one that they have."""
        return torch.channels_last if self.channels_last else torch.preserve_format

    @property
    def averages_gradients(self) -> bool:
        """Whether the step averages gradients over the processes itself instead of by DistributedDataParallel.

        That one communicates during the backward pass, and holds on to parts of the autograd graph that belong
        to another stream than a capture: neither a compiled nor a captured step would stay whole.
        """
        return self.compile or self.cuda_graph

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Context in which the network runs.

        Args:
            device: Where it runs.
        """
        dtype = DTYPES[self.precision] if self.precision in ("bf16", "fp16") else None
        if dtype is None:
            return contextlib.nullcontext()
        # A weight that several scales share is cast once. Leaving the context drops the casts, so none of them outlives
        # the capture of a step, which lies around it.
        return torch.autocast(device.type, dtype)


def choose_acceleration(options: Mapping[str, Any] | None, device: torch.device) -> Acceleration:
    """Decide how to run the training steps, and log what was chosen and why.

    Args:
        options: ``train.acceleration``: ``precision`` (``fp32``, ``tf32``, ``bf16``, ``fp16``), ``channels_last``,
            ``compile`` and ``cuda_graph`` (true or false), each of which may be ``auto`` for the best that the device
            supports. A key that is missing or empty is off.
        device: Where the network trains.

    Returns:
        What to do; what the device cannot do is off, with one warning that names it.

    Raises:
        InputError: If a value is none of the known ones.
    """
    if not options:
        return Acceleration()
    asked = {field.name: _checked(field.name, options.get(field.name)) for field in fields(Acceleration)}
    automatic = [name for name, value in asked.items() if value == "auto"]
    best = best_acceleration(device) if automatic else Acceleration()
    wanted = Acceleration(**{**asked, **{name: getattr(best, name) for name in automatic}})
    possible, obstacles = _possible(wanted, device)
    logger = get_root_logger()
    for obstacle in obstacles:
        logger.warning(f"train.acceleration.{obstacle}")
    reason = f" (auto on {_device_name(device)}: {', '.join(automatic)})" if automatic else ""
    settings = ", ".join(f"{field.name} {getattr(possible, field.name)}" for field in fields(possible))
    logger.info(f"Acceleration: {settings}{reason}")
    return possible


def _checked(name: str, value: Any) -> Any:
    """Value of an option, with an empty one turned into off."""
    if name == "precision":
        known: tuple[Any, ...] = (None, "auto", *PRECISIONS)
        choices = f"auto, {', '.join(PRECISIONS)}"
    else:
        value = value if value is not None else False
        known, choices = (False, True, "auto"), "auto, true, false"
    if value not in known:
        raise InputError(f"train.acceleration.{name}: {value} is unknown: choose one of {choices}")
    return value


def best_acceleration(device: torch.device) -> Acceleration:
    """The fastest setting for a device.

    Args:
        device: Where the network runs.
    """
    return _best_on_cuda(device) if device.type == "cuda" else _best_on_cpu()


def _best_on_cuda(device: torch.device) -> Acceleration:
    """The fastest setting for a GPU."""
    capability = torch.cuda.get_device_capability(device)
    has_tensor_cores = capability >= _TENSOR_CORES_FROM and not _WITHOUT_TENSOR_CORES.search(
        torch.cuda.get_device_name(device)
    )
    half: Precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return Acceleration(
        precision=half if has_tensor_cores else "fp32",
        channels_last=has_tensor_cores,
        compile=capability >= _TRITON_FROM and has_triton_package(),
        cuda_graph=True,
    )


def _best_on_cpu() -> Acceleration:
    """The fastest setting for the CPU: compiling takes minutes there and hardly pays."""
    # Older releases of torch do not tell.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if any(capabilities.get(instructions) for instructions in ("avx512_bf16", "amx_bf16")):
        return Acceleration(precision="bf16", channels_last=True)
    return Acceleration(channels_last=True)


def _possible(wanted: Acceleration, device: torch.device) -> tuple[Acceleration, list[str]]:
    """Drop what a device cannot do, and say why."""
    obstacles: list[str] = []

    def without(reason: str, **off: Any) -> None:
        nonlocal wanted
        wanted = replace(wanted, **off)
        obstacles.append(reason)

    if device.type != "cuda":
        if wanted.precision in ("tf32", "fp16"):
            without(f"precision: {wanted.precision} needs an NVIDIA GPU: fp32 is used", precision="fp32")
        if wanted.cuda_graph:
            without("cuda_graph needs an NVIDIA GPU: steps run one operation at a time", cuda_graph=False)
    return wanted, obstacles


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def allow_tf32(allowed: bool) -> None:
    """Let convolutions and matrix products of float32 run in TF32, or not, in the whole process.

    Args:
        allowed: PyTorch's own choice is to allow it in convolutions only.
    """
    # The older of two pairs of switches: torch refuses to read it once the newer has been set, and others read it.
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def updates_on_device(acceleration: Acceleration, device: torch.device) -> bool:
    """Whether the update of the weights must not need the host: that of a compiled or captured step, or of fp16.

    Args:
        acceleration: How the steps run.
        device: Where the weights are.
    """
    return device.type == "cuda" and (acceleration.averages_gradients or acceleration.precision == "fp16")
