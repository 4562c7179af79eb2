"""Watches a training for losses that are no longer finite, without waiting for the device at each step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from macr_plugin.errors import InputError
from macr_plugin.models.checkpoints import REMEDY, save_atomically
from macr_plugin.models.memory_layout import change_at_once

STOP, SKIP = "stop", "skip"


class DivergenceWatch:
    """Remembers on the device the first step whose loss was not finite, and its batch.

    Args:
        device: Where the losses are.
        folder: Where the batch is kept.
        reaction: ``stop`` ends the training; ``skip`` goes on, with the gradient of such a step taken as 0.
    """

    def __init__(self, device: torch.device, folder: Path, reaction: str = STOP) -> None:
        if reaction not in (STOP, SKIP):
            raise InputError(f"train.on_nonfinite: {reaction}: write stop or skip")
        self.skips = reaction == SKIP
        self._folder = folder
        self._first = torch.full((), -1, device=device)
        self._count = torch.zeros((), dtype=torch.long, device=device)
        self._said = 0
        self._batch: dict[str, Tensor] = {}
        self._steps: dict[int, tuple[Sequence[str], float]] = {}

    @torch.no_grad()
    def observe(
        self,
        iteration: int,
        losses: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        keys: Sequence[str],
        rate: float,
    ) -> None:
        """Look at a step; nothing is waited for.

        Args:
            iteration: Number of the step.
            losses: Name to scalar, on the device.
            batch: ``lq`` and ``gt``: (N, 3, H, W) RGB in [0, 1].
            keys: Names of the pictures.
            rate: Learning rate.
        """
        bad = torch.stack(list(losses.values())).isfinite().all().logical_not_()
        is_first = bad & (self._first < 0)
        for name, pictures in batch.items():
            kept = self._batch.get(name)
            if kept is None or kept.shape != pictures.shape:
                self._batch[name] = pictures.clone()
            else:
                torch.where(is_first, pictures, kept, out=kept)
        self._first.masked_fill_(is_first, iteration)
        self._count += bad
        self._steps[iteration] = keys, rate

    def check(self, warn: Any) -> None:
        """Ask the device what it found, and stop the training if that is how to react.

        Args:
            warn: Called with a line that says how many steps were skipped.

        Raises:
            InputError: Naming the step, its learning rate and pictures, and the file that keeps its batch.
        """
        first, count = int(self._first), int(self._count)
        keys, rate = self._steps.get(first, ((), float("nan")))
        self._steps.clear()
        if first < 0:
            return
        if self.skips:
            if count > self._said:
                warn(f"train.on_nonfinite: skip: {count} steps so far had a loss that is not finite")
                self._said = count
            return
        path = self._folder / f"nonfinite_batch_{first}.pth"
        content = {name: pictures.cpu() for name, pictures in self._batch.items()}
        save_atomically({**content, "iter": first, "keys": list(keys), "lr": rate}, path)
        raise InputError(
            f"the loss is not finite at step {first} (learning rate {rate:g}, pictures "
            f"{', '.join(keys) or 'unnamed'}); its batch is in {path}, nothing was saved since: {REMEDY}"
        )


@torch.no_grad()
def drop_nonfinite_gradients(weights: Iterable[Tensor]) -> None:
    """Take all gradients as 0 if any of them is not finite, without waiting for the device.

    Args:
        weights: Tensors of any shape and value; those without a gradient are left alone.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    change_at_once(gradients, lambda values: values.masked_fill_(~values.isfinite().all(), 0))


@contextmanager
def finite_statistics(*networks: nn.Module) -> Iterator[None]:
    """Give buffers that a training step makes not finite, such as running means, back the values from before it.

    Nothing waits for the device. A network without floating-point buffers, such as MACR, costs nothing.

    Args:
        networks: Those that run forwards and backwards inside: a backward pass needs the statistics of its own.
    """
    buffers = [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]
    before = [buffer.clone() for buffer in buffers]
    yield
    with torch.no_grad():
        for buffer, kept in zip(buffers, before, strict=True):
            buffer.copy_(torch.where(buffer.isfinite().all(), buffer, kept))
