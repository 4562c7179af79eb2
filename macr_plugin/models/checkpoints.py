"""Checkpoints: written atomically, with all that an exact resume needs, and no more of them than wanted."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from macr_plugin.errors import InputError
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.filesystem.torch_file import read_torch_file

#: Under this key ``net_g_best.pth`` holds, beside the weights, what they achieved.
BEST_KEY = "best"
#: What to do where losses or weights are not finite.
REMEDY = "lower train.optim_g.lr, clip with train.grad_clip_norm, or set train.on_nonfinite: skip"


def save_atomically(content: Any, path: Path) -> None:
    """Write a checkpoint beside its place, see that it is on disk, then rename it.

    Args:
        content: What ``torch.save`` takes.
        path: Its final place.

    Raises:
        InputError: If it cannot be written; what was at ``path`` is still there then.
    """
    with atomic_write(path, "free some disk space and resume with --auto_resume", durable=True) as file:
        # Under a name torch writes without Python's lock, which the steps beside it need.
        torch.save(content, file.name)


class CheckpointWriter:
    """Writes checkpoints in a thread, in the order in which they are given, while the training goes on.

    Once one could not be written, nothing that was given after it is: a state without its weights would look whole.

    Args:
        in_background: Whether to go on at once; otherwise each call returns when its file is there.
    """

    def __init__(self, in_background: bool) -> None:
        self._in_background = in_background
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._last: Future[None] | None = None
        self._error: BaseException | None = None

    def save(self, content: Any, path: Path) -> None:
        """Write what :func:`save_atomically` takes, as it is now.

        Args:
            content: Copied to memory of the host before this returns.
            path: Its final place.
        """
        copied = on_host(content)
        self.do(lambda: save_atomically(copied, path))

    def do(self, job: Callable[[], None]) -> None:
        """Do something after all that was given before."""
        self._last = self._thread.submit(self._run, job)
        if not self._in_background:
            self.finish()

    def _run(self, job: Callable[[], None]) -> None:
        if self._error is None:
            try:
                job()
            except BaseException as error:
                self._error = error

    @property
    def is_writing(self) -> bool:
        """Whether something is still to be written."""
        return self._last is not None and not self._last.done()

    def check(self) -> None:
        """Raise the error with which writing ended, if it did; waits for nothing."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            InputError: If a file could not be written.
        """
        if self._last is not None:
            self._last.result()
        self.check()


def on_host(content: Any) -> Any:
    """Copy tensors, in dictionaries and lists at any depth, to memory of the host that nothing else changes."""
    if isinstance(content, torch.Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        copied = copy.copy(content)
        for key, value in content.items():
            copied[key] = on_host(value)
        return copied
    if isinstance(content, (list, tuple)):
        return type(content)([on_host(value) for value in content])
    return content


def refuse_nonfinite_weights(networks: Iterable[nn.Module], when: str, remedy: str = REMEDY) -> None:
    """Refuse weights that are not finite; waits for the device.

    Args:
        networks: Those to look at.
        when: What would happen to them, for the message.
        remedy: What the message advises.

    Raises:
        InputError: Naming the first weight that is not finite.
    """
    for network in networks:
        weights = {name: weight for name, weight in network.state_dict().items() if weight.is_floating_point()}
        # One answer of the device for all weights; which one it is matters only then.
        if nn.utils.get_total_norm(weights.values(), float("inf")).isfinite():
            continue
        name = next(name for name, weight in weights.items() if not weight.isfinite().all())
        raise InputError(f"{when}: the weight {name} is not finite, so the last good files stay: {remedy}")


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of checkpoints that it was writing."""
    for path in folder.glob(".*.unfinished"):
        path.unlink(missing_ok=True)


def remove_older(models: Path, states: Path, keep: int) -> None:
    """Remove all but the newest checkpoints; ``latest`` and ``best`` stay.

    Args:
        models: Folder of the weights.
        states: Folder of the training states.
        keep: How many iterations to keep.
    """
    iterations = sorted(int(path.stem) for path in states.glob("*.state") if path.stem.isdigit())
    for iteration in iterations[:-keep]:
        # The state first: what is left of a pair must not look like one.
        (states / f"{iteration}.state").unlink(missing_ok=True)
        for weights in models.glob(f"net_*_{iteration}.pth"):
            weights.unlink(missing_ok=True)


def random_states() -> dict[str, Any]:
    """Where the random generators of this process stand: Python's, numpy's, torch's and the GPU's."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the random generators of this process where :func:`random_states` found them."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def read_best(path: Path, dataset_name: str, metric: str) -> dict[str, Any]:
    """Read what the weights of ``net_g_best.pth`` achieved.

    Args:
        path: The file; it need not be there.
        dataset_name: Data set that is asked for.
        metric: Name of the metric that is asked for.

    Returns:
        ``val`` and ``iter``; nothing if there is no file, or it was the best by another metric or data set.

    Raises:
        InputError: If the file is damaged.
    """
    if not path.is_file():
        return {}
    damaged = f"{path} is damaged (cut short?): delete it, the next validation writes it anew"
    record = read_torch_file(path, damaged).get(BEST_KEY, {})
    if (record.get("dataset"), record.get("metric")) != (dataset_name, metric):
        return {}
    return {"val": record["val"], "iter": record["iter"]}
