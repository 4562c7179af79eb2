"""Makes a training step as fast as the device allows: precision, memory layout, ``torch.compile`` and CUDA graphs.

:func:`choose_acceleration` turns ``train.acceleration`` of the options into an :class:`Acceleration`, and a
:class:`TrainingStep` runs the step by it. Without that block nothing here changes what PyTorch does by default.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.optim import Optimizer

from macr_plugin.errors import InputError
from macr_plugin.models.divergence import drop_nonfinite_gradients

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Losses = Mapping[str, Tensor]

_HALF_TYPES: Mapping[str | None, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SWITCHES = ("capturable", "fused", "foreach", "differentiable")

#: Steps taken eagerly before a CUDA graph is captured: cuDNN chooses its kernels and Adam makes its state in them.
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Acceleration:
    """How a training step runs; the default is what PyTorch does by itself.

    Attributes:
        precision: ``fp32`` turns TF32 off, ``tf32`` turns it on, ``bf16`` and ``fp16`` run the network in autocast,
            ``fp16`` with a scaled loss. None leaves PyTorch's own settings alone. Losses are computed in at least
            float32 anyhow, and weights stay float32.
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

        That one communicates in the midst of the backward pass, and holds on to parts of the autograd graph that belong
        to another stream than a capture: neither a compiled nor a captured step would stay whole.
        """
        return self.compile or self.cuda_graph

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Context in which the network runs.

        Args:
            device: Where it runs.
        """
        dtype = _HALF_TYPES.get(self.precision)
        if dtype is None:
            return contextlib.nullcontext()
        # Cached casts of the weights would outlive the capture that made them.
        return torch.autocast(device.type, dtype, cache_enabled=not self.cuda_graph)


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
    best = best_acceleration(device)
    chosen = {name: getattr(best, name) if value == "auto" else value for name, value in asked.items()}
    wanted = Acceleration(**chosen)
    possible, obstacles = _possible(wanted, device)
    logger = get_root_logger()
    for obstacle in obstacles:
        logger.warning(f"train.acceleration.{obstacle}")
    automatic = [name for name, value in asked.items() if value == "auto"]
    reason = f" (auto on {_device_name(device)}: {', '.join(automatic)})" if automatic else ""
    settings = ", ".join(f"{field.name} {getattr(possible, field.name)}" for field in fields(possible))
    logger.info(f"Acceleration: {settings}{reason}")
    return possible


def _checked(name: str, value: Any) -> Any:
    """Value of an option, with an empty one turned into off."""
    if name == "precision":
        known: tuple[Any, ...] = (None, "auto", *get_args(Precision))
        choices = f"auto, {', '.join(get_args(Precision))}"
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
    return _best_on_cuda() if device.type == "cuda" else _best_on_cpu()


def _best_on_cuda() -> Acceleration:
    """The fastest setting for the current GPU."""
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Acceleration(
        precision="bf16" if has_bf16 else "fp16",
        channels_last=True,
        compile=importlib.util.find_spec("triton") is not None,
        cuda_graph=has_bf16,
    )


def _best_on_cpu() -> Acceleration:
    """The fastest setting for the CPU: compiling takes minutes there and hardly pays."""
    # Older releases of torch do not tell.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if any(capabilities.get(instructions) for instructions in ("avx512_bf16", "amx_bf16")):
        return Acceleration(precision="bf16", channels_last=True)
    return Acceleration()


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
    if wanted.precision == "fp16" and wanted.cuda_graph:
        without("cuda_graph: fp16 rescales its loss on the host, so its steps are not captured", cuda_graph=False)
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


def make_capturable(optimizer: Optimizer, acceleration: Acceleration, device: torch.device) -> None:
    """Let the update of a compiled or captured step run without the host, in one kernel for all weights.

    Args:
        optimizer: Adam or AdamW, before its first step; others have no such switches and are left alone.
        acceleration: How the steps run.
        device: Where the weights are.
    """
    if device.type == "cuda" and acceleration.averages_gradients:
        for group in optimizer.param_groups:
            group.update({switch: True for switch in ("capturable", "fused") if switch in group})


@contextlib.contextmanager
def keep_switches(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Undo what loading a state in the body does to the way optimizers run.

    A state brings the switches of the run that saved it, and Adam's step counters on the device that those wanted.

    Args:
        optimizers: Those whose states the body loads.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    kept = [{switch: group[switch] for switch in _SWITCHES if switch in group} for group in groups]
    yield
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group, switches in zip(groups, kept, strict=True):
        group.update(switches)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            on_device = bool(group.get("capturable") or group.get("fused"))
            for weight in group["params"]:
                if "step" in optimizer.state.get(weight, {}):
                    step = torch.as_tensor(optimizer.state[weight]["step"], dtype=torch.float32)
                    optimizer.state[weight]["step"] = step.to(weight.device if on_device else "cpu")


class DeviceLearningRates:
    """Learning rates of an optimizer as tensors, which a captured update reads at every replay.

    BasicSR's schedulers and its warm-up put plain numbers into the optimizer; they stay there, and the tensors follow.

    Args:
        optimizer: Whose rates.
        device: Where the weights are.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self._groups = optimizer.param_groups
        self._tensors = [torch.zeros((), device=device) for _ in self._groups]
        self._values: list[float | None] = [None] * len(self._groups)

    def follow(self) -> None:
        """Bring the tensors up to date; costs nothing while the rates stay."""
        for index, (tensor, group) in enumerate(zip(self._tensors, self._groups, strict=True)):
            if self._values[index] != group["lr"]:
                self._values[index] = group["lr"]
                tensor.fill_(group["lr"])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the optimizer see the tensors instead of its numbers, in the body only."""
        numbers = [group["lr"] for group in self._groups]
        for tensor, group in zip(self._tensors, self._groups, strict=True):
            group["lr"] = tensor
        try:
            yield
        finally:
            for number, group in zip(numbers, self._groups, strict=True):
                group["lr"] = number


class StepOutput(NamedTuple):
    """What a step leaves.

    Attributes:
        restored: Finest restored pictures, shape (N, 3, H, W).
        losses: Name to scalar, on the device, without gradient.
    """

    restored: Tensor
    losses: Losses


LossFunction = Callable[[Tensor, Tensor], tuple[Tensor, Losses, Tensor]]


class TrainingStep:
    """One step of training: losses, gradients, update; compiled and captured as far as that works.

    What cannot be compiled or captured runs one operation at a time instead, after one warning. A captured step serves
    batches of the shape that it was captured with; a batch of another shape runs eagerly.

    Args:
        acceleration: How to run.
        loss_function: Takes blurred and sharp pictures; gives the loss to minimize, its named parts, and the finest
            restored pictures.
        optimizer: Of the network's weights.
        after_update: Called after each update, such as an average of the weights.
        grad_clip_norm: Largest norm of the gradient; None does not clip.
        device: Where the weights are.
        processes: Over how many processes the gradients are averaged here; 1 where there is one process, or where
            DistributedDataParallel does it.
        skips_nonfinite: Whether gradients that are not finite count as 0.
    """

    def __init__(
        self,
        acceleration: Acceleration,
        loss_function: LossFunction,
        optimizer: Optimizer,
        after_update: Callable[[], None],
        grad_clip_norm: float | None,
        device: torch.device,
        processes: int = 1,
        skips_nonfinite: bool = False,
    ) -> None:
        self._acceleration = acceleration
        self._loss_function = loss_function
        # The shape of training batches does not change; a symbolic one would only make slower kernels.
        self._compiled = torch.compile(loss_function, dynamic=False) if acceleration.compile else None
        self._optimizer = optimizer
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._after_update = after_update
        self._grad_clip_norm = grad_clip_norm
        self._device = device
        self._processes = processes
        # A loss scaler leaves out such steps itself, and learns from them.
        self._skips_nonfinite = skips_nonfinite and acceleration.precision != "fp16"
        self.scaler = torch.amp.GradScaler(device.type, enabled=acceleration.precision == "fp16")
        self._captures = acceleration.cuda_graph
        self._learning_rates = DeviceLearningRates(optimizer, device)
        self._steps = 0
        self._graph: CapturedStep | DistributedCapturedStep | None = None

    def __call__(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        """Take a step.

        Args:
            blurred: Shape (N, 3, H, W), RGB in [0, 1], on the device.
            sharp: The same frames without blur.

        Returns:
            Tensors that the next step may overwrite; none of them has been waited for.
        """
        self._steps += 1
        if not self._captures:
            return self._eager_step(blurred, sharp)
        self._learning_rates.follow()
        if self._graph is None and self._steps > WARM_UP_STEPS:
            self._graph = self._capture(blurred, sharp)
        if self._graph is not None and self._graph.fits(blurred, sharp):
            return self._graph.replay(blurred, sharp)
        with run_aside(self._device):
            return self._eager_step(blurred, sharp)

    def _eager_step(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        output = self._losses_and_gradients(blurred, sharp)
        self._average_gradients()
        self._update()
        return output

    def _losses_and_gradients(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        if self._compiled is not None:
            try:
                return self._backward(self._compiled, blurred, sharp)
            except InputError:
                raise
            except Exception as error:
                self._compiled = None
                _warn("compile", error, "runs without it")
        return self._backward(self._loss_function, blurred, sharp)

    def _backward(self, loss_function: LossFunction, blurred: Tensor, sharp: Tensor) -> StepOutput:
        self._optimizer.zero_grad()
        total, losses, restored = loss_function(blurred, sharp)
        self.scaler.scale(total).backward()
        return StepOutput(restored.detach(), {name: loss.detach() for name, loss in losses.items()})

    def _average_gradients(self) -> None:
        if self._processes > 1:
            average(gradients_of(self._weights), self._processes)

    def _update(self) -> None:
        if self._skips_nonfinite:
            drop_nonfinite_gradients(self._weights)
        if self._grad_clip_norm is not None:
            self.scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._weights, self._grad_clip_norm)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        self._after_update()

    def _capture(self, blurred: Tensor, sharp: Tensor) -> CapturedStep | DistributedCapturedStep | None:
        try:
            with self._learning_rates.in_place():
                if self._processes == 1:
                    return CapturedStep(self._eager_step, blurred, sharp)
                first = CapturedStep(self._losses_and_gradients, blurred, sharp)
                return DistributedCapturedStep(first, gradients_of(self._weights), self._update, self._processes)
        except InputError:
            raise
        except Exception as error:
            self._captures = False
            self._optimizer.zero_grad()
            _warn("cuda_graph", error, "runs one operation at a time")
            return None


class CapturedStep:
    """A step recorded in a CUDA graph.

    Args:
        step: The step to record.
        blurred: Pictures of the shape that every replay will have.
        sharp: Likewise.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], StepOutput], blurred: Tensor, sharp: Tensor) -> None:
        self._blurred, self._sharp = blurred.clone(), sharp.clone()
        self._output, self._replay = capture(lambda: step(self._blurred, self._sharp))

    def fits(self, blurred: Tensor, sharp: Tensor) -> bool:
        """Whether pictures have the shape that was recorded."""
        return blurred.shape == self._blurred.shape and sharp.shape == self._sharp.shape

    def replay(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        """Take the step with other pictures of the same shape; its output is overwritten by the next one."""
        self._blurred.copy_(blurred)
        self._sharp.copy_(sharp)
        self._replay()
        return self._output


class DistributedCapturedStep:
    """A step of several processes, recorded in two CUDA graphs with the averaging of the gradients between them.

    Args:
        first: Losses and gradients, recorded.
        gradients: Those that the first part writes.
        update: The second part, to record.
        processes: Over how many processes the gradients are averaged.
    """

    def __init__(
        self, first: CapturedStep, gradients: Sequence[Tensor], update: Callable[[], None], processes: int
    ) -> None:
        self._first = first
        # Held on to: a step between two replays would drop them, and their memory with them.
        self._gradients = gradients
        self._processes = processes
        _, self._replay_update = capture(update)

    def fits(self, blurred: Tensor, sharp: Tensor) -> bool:
        """As :meth:`CapturedStep.fits`."""
        return self._first.fits(blurred, sharp)

    def replay(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        """As :meth:`CapturedStep.replay`."""
        output = self._first.replay(blurred, sharp)
        average(self._gradients, self._processes)
        self._replay_update()
        return output


def capture(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """Record the GPU's work of a function in a CUDA graph.

    Args:
        function: Queues work without waiting for any of it. It is called once, and its work is not carried out.

    Returns:
        What the function returned, and a function that carries the work out, in the same memory every time.
    """
    graph = torch.cuda.CUDAGraph()
    # Thread-local: the thread that pins batches in memory calls CUDA functions that a global capture forbids.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = function()
    return output, graph.replay


@contextlib.contextmanager
def run_aside(device: torch.device) -> Iterator[None]:
    """Run the body on a stream of its own, as PyTorch demands of the steps before a capture; the others wait for it."""
    if device.type != "cuda":
        yield
        return
    current, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        yield
    current.wait_stream(aside)


def gradients_of(weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of those weights that have one."""
    return [weight.grad for weight in weights if weight.grad is not None]


def average(tensors: Sequence[Tensor], processes: int) -> None:
    """Replace tensors by their mean over the processes, in one message.

    Args:
        tensors: Of the same shapes in every process.
        processes: Number of processes.
    """
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= processes
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def _warn(option: str, error: Exception, consequence: str) -> None:
    message = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    get_root_logger().warning(f"train.acceleration.{option} failed ({message}): the training {consequence}")
