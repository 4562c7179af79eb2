"""One step of training, compiled and captured as far as that works, and what an update without the host needs.

How it runs is an :class:`~macr_plugin.models.acceleration.Acceleration`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.optim import Optimizer

from macr_plugin.errors import InputError, first_line
from macr_plugin.models.acceleration import Acceleration, Losses
from macr_plugin.models.cuda_graphs import SideStream, capture, notice_waiting
from macr_plugin.models.divergence import drop_nonfinite_gradients, finite_statistics
from macr_plugin.models.memory_layout import change_at_once

_SWITCHES = ("capturable", "fused", "foreach", "differentiable")

#: Steps taken eagerly before a CUDA graph is captured: cuDNN chooses its kernels and Adam makes its state in them.
WARM_UP_STEPS = 3


def fused_update(options: Mapping[str, Any]) -> dict[str, Any]:
    """Let Adam or AdamW update all weights in one kernel, without the host.

    From the beginning: set later, a loss scaler would not know, and ask the device in every step whether to update.

    Args:
        options: Arguments of the optimizer; where they choose between ``fused`` and ``foreach`` themselves, that stays.

    Returns:
        All arguments.
    """
    chosen = {"capturable": True, **options}
    if not {"fused", "foreach", "differentiable"} & options.keys():
        chosen["fused"] = True
    return chosen


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
        skipping: The network, if a step that is not finite must leave its statistics alone and gradients that are not
            finite count as 0; None takes them as they are.
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
        skipping: nn.Module | None = None,
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
        self._skips_gradients = skipping is not None and acceleration.precision != "fp16"
        self._skipping = () if skipping is None else (skipping,)
        self.scaler = torch.amp.GradScaler(device.type, enabled=acceleration.precision == "fp16")
        self._learning_rates = DeviceLearningRates(optimizer, device)
        self._side = SideStream(device) if acceleration.cuda_graph else None
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
        if self._side is None:
            return self._eager_step(blurred, sharp)
        self._learning_rates.follow()
        if self._graph is None and self._steps > WARM_UP_STEPS:
            self._graph = self._capture(blurred, sharp, self._side)
        if self._graph is not None and self._graph.fits(blurred, sharp):
            return self._graph.replay(blurred, sharp)
        if self._side is None:
            return self._eager_step(blurred, sharp)
        if self._steps == WARM_UP_STEPS:
            return self._rehearse(blurred, sharp, self._side)
        with self._side.current():
            return self._eager_step(blurred, sharp)

    def _rehearse(self, blurred: Tensor, sharp: Tensor, side: SideStream) -> StepOutput:
        """Take the last eager step, and give the capture up if that waits for the GPU.

        A capture that is not begun has nothing to undo.
        """
        with notice_waiting(self._device) as places, side.current():
            output = self._eager_step(blurred, sharp)
        if places:
            self._give_up_capture(f"the step waits for the GPU at {places[0]}")
        return output

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
                _warn("compile", first_line(error) or type(error).__name__, "runs without it")
        return self._backward(self._loss_function, blurred, sharp)

    def _backward(self, loss_function: LossFunction, blurred: Tensor, sharp: Tensor) -> StepOutput:
        self._optimizer.zero_grad()
        with finite_statistics(*self._skipping):
            total, losses, restored = loss_function(blurred, sharp)
            self.scaler.scale(total).backward()
        return StepOutput(restored.detach(), {name: loss.detach() for name, loss in losses.items()})

    def _average_gradients(self) -> None:
        if self._processes > 1:
            average(gradients_of(self._weights), self._processes)

    def _update(self) -> None:
        if self._skips_gradients:
            drop_nonfinite_gradients(self._weights)
        if self._grad_clip_norm is not None:
            self.scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._weights, self._grad_clip_norm)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        self._after_update()

    def _capture(
        self, blurred: Tensor, sharp: Tensor, side: SideStream
    ) -> CapturedStep | DistributedCapturedStep | None:
        try:
            with self._learning_rates.in_place():
                if self._processes == 1:
                    return CapturedStep(self._eager_step, blurred, sharp, side)
                first = CapturedStep(self._losses_and_gradients, blurred, sharp, side)
                return DistributedCapturedStep(first, gradients_of(self._weights), self._update, self._processes, side)
        except InputError:
            raise
        except Exception as error:
            # Gradients in the memory of a graph that does not exist.
            self._optimizer.zero_grad()
            self._give_up_capture(first_line(error) or type(error).__name__)
            return None

    def _give_up_capture(self, reason: str) -> None:
        self._side = None
        _warn("cuda_graph", reason, "runs one operation at a time")


class CapturedStep:
    """A step recorded in a CUDA graph.

    Args:
        step: The step to record.
        blurred: Pictures of the shape that every replay will have.
        sharp: Likewise.
        side: Where the steps before ran.
    """

    def __init__(
        self, step: Callable[[Tensor, Tensor], StepOutput], blurred: Tensor, sharp: Tensor, side: SideStream
    ) -> None:
        self._blurred, self._sharp = blurred.clone(), sharp.clone()
        self._output, self._replay = capture(lambda: step(self._blurred, self._sharp), side)

    def fits(self, blurred: Tensor, sharp: Tensor) -> bool:
        """Whether pictures (N, 3, H, W), RGB in [0, 1], have the shape that was recorded."""
        return blurred.shape == self._blurred.shape and sharp.shape == self._sharp.shape

    def replay(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        """Take the step with other pictures of the same shape, RGB in [0, 1].

        Its output is overwritten by the next one.
        """
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
        side: Where the steps before ran.
    """

    def __init__(
        self,
        first: CapturedStep,
        gradients: Sequence[Tensor],
        update: Callable[[], None],
        processes: int,
        side: SideStream,
    ) -> None:
        self._first = first
        # Held on to: a step between two replays would drop them, and their memory with them.
        self._gradients = gradients
        self._processes = processes
        _, self._replay_update = capture(update, side)

    def fits(self, blurred: Tensor, sharp: Tensor) -> bool:
        """Whether pictures (N, 3, H, W), RGB in [0, 1], have the shape that was recorded."""
        return self._first.fits(blurred, sharp)

    def replay(self, blurred: Tensor, sharp: Tensor) -> StepOutput:
        """Take the step with other pictures of the same shape, RGB in [0, 1]: see :meth:`CapturedStep.replay`."""
        output = self._first.replay(blurred, sharp)
        average(self._gradients, self._processes)
        self._replay_update()
        return output


def gradients_of(weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of those weights that have one, each of its weight's shape, of any value."""
    return [weight.grad for weight in weights if weight.grad is not None]


def average(tensors: Sequence[Tensor], processes: int) -> None:
    """Replace tensors by their mean over the processes, in one message.

    Args:
        tensors: Of any value, and of the same shapes in every process.
        processes: Number of processes.
    """

    def mean_of_processes(values: Tensor) -> None:
        torch.distributed.all_reduce(values)
        values /= processes

    change_at_once(tensors, mean_of_processes)


def _warn(option: str, reason: str, consequence: str) -> None:
    get_root_logger().warning(f"train.acceleration.{option} failed ({reason}): the training {consequence}")
