"""Makes a trained network restore the same pictures in fewer and larger steps.

On a GPU a 720p frame of MACR is a few hundred small kernels, which take longer to launch and to feed from memory than
to compute: :func:`optimize` lets a convolution and the ReLU after it be one kernel, may merge the four branches of an
MSRM into one convolution, lays everything out channels last, and replays the whole pass as a CUDA graph. On a CPU the
layout is what helps, and in bf16, where convolutions are quick, the ReLU as a part of the convolution too.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from macr_plugin.archs.blocks import DenseConnectionBlock, ResidualBlock, conv
from macr_plugin.archs.macr_arch import ACRB, MACR, MSRM
from macr_plugin.models.acceleration import best_acceleration
from macr_plugin.models.cuda_graphs import SideStream, capture
from macr_plugin.models.memory_layout import lay_out
from macr_plugin.models.network_output import finest

logger = logging.getLogger(__name__)

#: Largest difference from the plain network, relative to its largest value, by the coarsest type on the way.
TOLERANCES: Mapping[torch.dtype, float] = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}
#: How often a size is met before its pass is captured: a single picture is restored sooner without.
CAPTURED_FROM = 3
#: How many sizes are kept captured, each with the memory of a whole pass.
CAPTURED_SIZES = 2

# The layers of each block that a ReLU follows, which the block itself calls.
_BEFORE_RELU: Mapping[type[nn.Module], tuple[str, ...]] = {
    MACR: ("conv1", "conv2", "conv3", "upsample1", "upsample2"),
    MSRM: ("branches", "fuse"),
    ACRB: ("first", "second"),
    ResidualBlock: ("conv1",),
    DenseConnectionBlock: ("layers",),
}


@dataclass(frozen=True)
class Treatment:
    """What is done to a network; the default is nothing.

    Attributes:
        channels_last: Lay weights and pictures out channels last.
        fused: Let a convolution and the ReLU after it be one operation.
        merged: Let the branches of each MSRM be one convolution, as wide as the widest.
        cuda_graph: Capture the pass for sizes that come again.
        compile: Compile the network with ``torch.compile``.
    """

    channels_last: bool = False
    fused: bool = False
    merged: bool = False
    cuda_graph: bool = False
    compile: bool = False

    def __str__(self) -> str:
        return ", ".join(field.name for field in fields(self) if getattr(self, field.name)) or "nothing"


def treatments_for(device: torch.device, compile: bool = False) -> list[Treatment]:
    """What is worth trying on a device, the best guess first.

    Args:
        device: Where the network runs.
        compile: Try ``torch.compile`` too, which takes minutes.
    """
    last = best_acceleration(device).channels_last
    if device.type != "cuda":
        return [Treatment(last, fused=True)]
    tried = [
        Treatment(last, fused=True, cuda_graph=True),
        Treatment(last, fused=True, merged=True, cuda_graph=True),
        Treatment(last, cuda_graph=True),
    ]
    return [*tried, Treatment(last, compile=True, cuda_graph=True)] if compile else tried


def optimize(
    network: nn.Module,
    example: Tensor,
    *,
    treatments: list[Treatment] | None = None,
    tolerance: float | None = None,
) -> OptimizedNetwork:
    """Find the fastest way to run a network that gives the same pictures, within a stated tolerance.

    Each treatment is compared with the plain network on the example. What fails, or differs by more, is left out with a
    warning; where several remain they are timed. If none remains, the plain network is what is returned.

    Args:
        network: Maps (N, 3, H, W), RGB in [0, 1], to pictures, in evaluation mode, on the device and in the type that
            it will run in. It is left as it is, and its weights are copied.
        example: What to compare and to time on, such as pictures of the size that will come.
        treatments: What to try; by default :func:`treatments_for` the device of the example.
        tolerance: Largest difference from the plain network, relative to the largest value that it returns; by default
            :data:`TOLERANCES` of the coarser of example and weights, or of autocast.

    Returns:
        The network to call; its ``treatment`` says what was done.
    """
    tolerance = tolerance if tolerance is not None else TOLERANCES[_working_type(network, example)]
    tried = treatments_for(example.device) if treatments is None else treatments
    with torch.no_grad():
        expected = finest(network(example)).clone()
        agreeing = [one for one in (_build(network, treatment) for treatment in tried) if one is not None]
        agreeing = [one for one in agreeing if _agrees(one, example, expected, tolerance)]
        if len(agreeing) > 1:
            agreeing.sort(key=lambda one: _seconds(one, example))
    for slower in agreeing[1:]:
        slower.forget_captures()
    return agreeing[0] if agreeing else OptimizedNetwork(network, Treatment())


class OptimizedNetwork(nn.Module):
    """A network after a treatment, called as before.

    Args:
        network: The network, treated.
        treatment: What was done to it.

    Shape:
        (N, 3, H, W) -> (N, 3, H, W)
    """

    def __init__(self, network: nn.Module, treatment: Treatment) -> None:
        super().__init__()
        self.network = network
        self.treatment = treatment
        self._seen: dict[object, int] = {}
        self._captured: dict[object, Callable[[Tensor], Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch of pictures (N, 3, H, W), RGB in [0, 1]."""
        if self.treatment.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if not (self.treatment.cuda_graph and x.is_cuda) or torch.is_grad_enabled():
            return finest(self.network(x))
        kind = (x.shape, x.dtype, _autocast_type(x.device))
        if kind not in self._captured:
            self._seen[kind] = self._seen.get(kind, 0) + 1
            if self._seen[kind] < CAPTURED_FROM:
                return finest(self.network(x))
            if len(self._captured) == CAPTURED_SIZES:
                self._captured.pop(next(iter(self._captured)))
            self._captured[kind] = _capture_pass(self.network, x)
        return self._captured[kind](x)

    def forget_captures(self) -> None:
        """Give the memory of captured passes back."""
        self._captured.clear()


def _capture_pass(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    side, pictures = SideStream(x.device), x.clone()
    with side.current():
        for _ in range(2):
            finest(network(pictures))
    try:
        output, replay = capture(lambda: finest(network(pictures)), side)
    except Exception as error:
        logger.warning("the pass is not captured (%s): it runs one operation at a time", error)
        return lambda later: finest(network(later))

    def restore(later: Tensor) -> Tensor:
        pictures.copy_(later)
        replay()
        # The next replay writes to the same memory.
        return output.clone()

    return restore


class ConvReLU(nn.Module):
    """A convolution and the ReLU after it, in one kernel where cuDNN, or oneDNN in bf16 on a CPU, has it.

    Args:
        layer: The convolution, whose weights it shares.
    """

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.layer = layer
        self._has_kernel = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve features (N, C, H, W) of any value, and clip below at 0."""
        # Autocast does not know the functions.
        dtype, obstacle = _autocast_type(x.device) or self.layer.weight.dtype, ""
        if self._may_be_one(x, dtype):
            try:
                return self._in_one(x, dtype)
            except torch.OutOfMemoryError:
                raise
            # Kernels are for some types and numbers of channels only; the first pass, which no graph records, tells.
            except RuntimeError as error:
                obstacle = str(error)
        output = functional.relu_(self.layer(x))
        # Where memory has run out the two fail as well, and say so.
        if obstacle:
            logger.info("a convolution of %s and its ReLU stay two kernels (%s)", tuple(x.shape), obstacle)
            self._has_kernel = False
        return output

    def _may_be_one(self, x: Tensor, dtype: torch.dtype) -> bool:
        # The functions have no gradient.
        if not self._has_kernel or torch.is_grad_enabled():
            return False
        if x.is_cuda:
            return isinstance(self.layer, nn.Conv2d)
        # In float32 the convolution itself is nearly all of the time.
        return torch.backends.mkldnn.is_available() and dtype is torch.bfloat16

    def _in_one(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        layer = self.layer
        bias = None if layer.bias is None else layer.bias.to(dtype)
        x, weight = x.to(dtype), layer.weight.to(dtype)
        rest = (layer.stride, layer.dilation, layer.groups)
        if x.is_cuda:
            padding = cast(tuple[int, ...], layer.padding)
            return torch.cudnn_convolution_relu(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
        # What follows the convolution: its name, its numbers, and which way to compute it.
        then: tuple[str, list[float], str] = ("relu", [], "")
        if isinstance(layer, nn.ConvTranspose2d):
            transposed = torch.ops.mkldnn._convolution_transpose_pointwise
            return cast(Tensor, transposed(x, weight, bias, layer.padding, layer.output_padding, *rest, *then))
        return cast(Tensor, torch.ops.mkldnn._convolution_pointwise(x, weight, bias, layer.padding, *rest, *then))


def _build(network: nn.Module, treatment: Treatment) -> OptimizedNetwork | None:
    """Apply a treatment to a copy; None, with a warning, where that fails."""
    try:
        # Autocast keeps casts of weights that need a gradient until it ends, and a captured pass would read them after.
        treated = copy.deepcopy(network).requires_grad_(False)
        if treatment.merged:
            for block in [module for module in treated.modules() if isinstance(module, MSRM)]:
                block.branches = nn.ModuleList([merge_branches(cast(Sequence[nn.Conv2d], block.branches))])
        if treatment.fused:
            fuse_relu(treated)
        if treatment.channels_last:
            lay_out(treated, torch.channels_last)
        if treatment.compile:
            treated.compile(dynamic=False)
        return OptimizedNetwork(treated, treatment)
    except Exception as error:
        logger.warning("optimize: %s failed (%s)", treatment, error)
        return None


def merge_branches(branches: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Merge convolutions that read the same input into one, whose smaller kernels are surrounded by zeros.

    Args:
        branches: Convolutions with a stride of 1 that keep the size, of odd kernels.

    Returns:
        A convolution whose channels are theirs, one branch after the other.
    """
    widest = max(branch.kernel_size[0] for branch in branches)
    merged = conv(branches[0].in_channels, sum(branch.out_channels for branch in branches), widest)
    margins = [(widest - branch.kernel_size[0]) // 2 for branch in branches]
    kernels = [
        functional.pad(branch.weight.detach(), [margin] * 4) for branch, margin in zip(branches, margins, strict=True)
    ]
    biases = [branch.bias.detach() for branch in branches if branch.bias is not None]
    merged.to(kernels[0]).requires_grad_(False)
    merged.load_state_dict({"weight": torch.cat(kernels), "bias": torch.cat(biases)})
    return merged


def fuse_relu(network: nn.Module) -> None:
    """Let every convolution of known blocks, and of plain sequences, be one operation with the ReLU after it.

    Args:
        network: Any network; it is changed.
    """
    for block in list(network.modules()):
        names = next((names for kind, names in _BEFORE_RELU.items() if isinstance(block, kind)), ())
        for name in names:
            setattr(block, name, _with_relu(getattr(block, name)))
        if names:
            block.relu = nn.Identity()
        if type(block) is nn.Sequential:
            _fuse_sequence(block)


def _with_relu(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.ModuleList):
        return nn.ModuleList(_with_relu(one) for one in layer)
    return ConvReLU(cast(nn.Conv2d | nn.ConvTranspose2d, layer))


def _fuse_sequence(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        layer = sequence[index]
        if type(layer) in (nn.Conv2d, nn.ConvTranspose2d) and type(sequence[index + 1]) is nn.ReLU:
            sequence[index], sequence[index + 1] = ConvReLU(cast(nn.Conv2d, layer)), nn.Identity()


def _autocast_type(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def _working_type(network: nn.Module, example: Tensor) -> torch.dtype:
    """The coarsest type that a pass computes in."""
    types = {example.dtype, *(weight.dtype for weight in network.parameters())} & TOLERANCES.keys()
    if autocast := _autocast_type(example.device):
        types.add(autocast)
    return max(types, key=lambda dtype: TOLERANCES[dtype])


def _agrees(network: OptimizedNetwork, example: Tensor, expected: Tensor, tolerance: float) -> bool:
    try:
        # As often as it takes to compare a captured pass too.
        for _ in range(CAPTURED_FROM if network.treatment.cuda_graph else 1):
            output = network(example)
    except Exception as error:
        logger.warning("optimize: %s failed (%s)", network.treatment, error)
        return False
    if output.shape != expected.shape:
        logger.warning("optimize: with %s the network returns another size", network.treatment)
        return False
    difference = (output.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-30)
    if not difference <= tolerance:
        logger.warning("optimize: %s changes the result by %.1e of its range", network.treatment, difference)
        return False
    return True


def _seconds(network: OptimizedNetwork, example: Tensor) -> float:
    """Time of a pass, the best of a few."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        network(example)
        if example.is_cuda:
            torch.cuda.synchronize(example.device)
        times.append(time.perf_counter() - start)
    return min(times)
