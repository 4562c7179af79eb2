"""Patches of how BasicSR counts the steps of an epoch, draws their samples and resumes during one."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from macr_plugin.basicsr_compat.patching import Options, replace_everywhere
from macr_plugin.errors import InputError


def patch_epochs(draw: Callable[[int, int, int], int]) -> None:
    """Let every training take all its steps, each on the samples that an undisturbed training takes there.

    BasicSR rounds the steps of an epoch up while its loader leaves out the last, incomplete batch, so that its loop
    runs out of epochs before ``train.total_iter``; and it resumes at the start of an epoch. With this patch

    * the last epoch of BasicSR's loop goes on with the epochs that are missing;
    * a resume goes on at the very batch, found from the number of steps taken, with other processes or batches too;
    * a sample's number tells its epoch and draw, which a dataset otherwise does not know;
    * a set that does not fill one batch is refused, where BasicSR trains no step and says nothing;
    * the log names the epoch that is really trained, and no negative time is left at its end.

    The order of the samples stays BasicSR's.

    Args:
        draw: Makes a sample's number from that number, the epoch and the draw.
    """
    import basicsr.data
    import torch
    from basicsr.data.data_sampler import EnlargedSampler
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import MessageLogger

    if hasattr(EnlargedSampler, "steps_of_epoch"):
        return
    samplers: list[Any] = []
    build_dataloader, resume_training = basicsr.data.build_dataloader, BaseModel.resume_training

    class TrainingSampler(EnlargedSampler):
        """BasicSR's sampler, which knows its batches, where to go on and when to go on without end.

        Attributes:
            batch_size: Samples of one process in a step.
            steps_taken: Steps before a resume; None once they are skipped.
            last_epoch: The one with which BasicSR's loop ends.
        """

        def __init__(self, dataset: Any, num_replicas: int, rank: int, ratio: float = 1) -> None:
            super().__init__(dataset, num_replicas, rank, ratio)
            self.ratio = ratio
            self.batch_size = 1
            self.steps_taken: int | None = None
            self.last_epoch: float = math.inf
            self.seed, self.worker_seeds = 0, torch.Generator()
            self._skipped, self._goes_on = 0, False
            samplers[:] = [self]

        @property
        def steps_of_epoch(self) -> int:
            """Whole batches of an epoch."""
            return self.total_size // (self.num_replicas * self.batch_size)

        def keep_order_of(self, processes: int) -> None:
            """Draw in the order of a training with another number of processes."""
            self.total_size = math.ceil(len(self.dataset) * self.ratio / processes) * processes
            self.num_samples = self.total_size // self.num_replicas

        def set_epoch(self, epoch: int) -> None:
            """Choose the epoch to draw next; after a resume that is the one it stopped in."""
            super().set_epoch(epoch)
            self._goes_on, self._skipped = epoch >= self.last_epoch, 0
            if self.steps_taken is not None:
                self.epoch, self._skipped = divmod(self.steps_taken, self.steps_of_epoch)
                self.steps_taken = None
            self.worker_seeds.manual_seed((self.seed + self.epoch) * self.num_replicas + self.rank)

        def __iter__(self) -> Iterator[int]:
            whole = self.steps_of_epoch * self.batch_size
            end = whole if self._goes_on else None
            yield from self._draws(self.epoch)[self._skipped * self.batch_size : end]
            if self._goes_on:
                for epoch in itertools.count(self.epoch + 1):
                    yield from self._draws(epoch)[:whole]

        def _draws(self, epoch: int) -> list[int]:
            generator = torch.Generator()
            generator.manual_seed(epoch)
            numbers = torch.randperm(self.total_size, generator=generator)[self.rank :: self.num_replicas].tolist()
            size = len(self.dataset)
            return [draw(number % size, epoch, number) for number in numbers]

    class TrainingLogger(MessageLogger):
        """BasicSR's log of the steps; the first to be told at which step the training starts."""

        def __init__(self, opt: Options, start_iter: int = 1, tb_logger: Any = None) -> None:
            super().__init__(opt, start_iter, tb_logger)
            # BasicSR takes one step too many off the time that is left.
            self.max_iters = int(opt["train"]["total_iter"]) + 1
            for sampler in samplers:
                sampler.last_epoch = epochs_of_loop(sampler, opt)
                sampler.steps_taken = start_iter or None

        def __call__(self, log_vars: dict[str, Any]) -> None:
            """Log a step under the epoch that it belongs to."""
            for sampler in samplers:
                log_vars["epoch"] = (log_vars["iter"] - 1) // sampler.steps_of_epoch
            super().__call__(log_vars)

    @functools.wraps(build_dataloader)
    def counting_build_dataloader(dataset: Any, dataset_opt: Options, *args: Any, **kwargs: Any) -> Any:
        loader = build_dataloader(dataset, dataset_opt, *args, **kwargs)
        if isinstance(loader.sampler, TrainingSampler):
            loader.sampler.batch_size = loader.batch_size
            # The workers' seeds depend on the epoch alone, and drawing them leaves the training's generator alone.
            loader.sampler.seed = kwargs.get("seed") or 0
            loader.generator = loader.sampler.worker_seeds
            refuse_too_few_samples(loader.sampler)
        return loader

    @functools.wraps(resume_training)
    def patched_resume_training(self: Any, resume_state: Options) -> None:
        resume_training(self, resume_state)
        for sampler in samplers:
            sampler.keep_order_of(resume_state.get("order_of_processes", sampler.num_replicas))
            # BasicSR's loop starts with this one and takes no step where it is beyond its last.
            resume_state["epoch"] = min(
                resume_state["iter"] // sampler.steps_of_epoch, epochs_of_loop(sampler, self.opt)
            )

    replace_everywhere(EnlargedSampler, TrainingSampler)
    replace_everywhere(MessageLogger, TrainingLogger)
    replace_everywhere(build_dataloader, counting_build_dataloader)
    BaseModel.resume_training = patched_resume_training


def epochs_of_loop(sampler: Any, opt: Options) -> int:
    """Number of the epoch with which BasicSR's loop ends, as its ``train.py`` finds it."""
    batch = opt["datasets"]["train"]["batch_size_per_gpu"] * opt["world_size"]
    steps_of_epoch = math.ceil(len(sampler.dataset) * sampler.ratio / batch)
    return math.ceil(int(opt["train"]["total_iter"]) / steps_of_epoch)


def refuse_too_few_samples(sampler: Any) -> None:
    """Refuse a training set that does not fill one batch.

    Raises:
        InputError: With both numbers.
    """
    if sampler.steps_of_epoch:
        return
    raise InputError(
        f"datasets.train: {len(sampler.dataset)} samples x dataset_enlarge_ratio {sampler.ratio} do not fill one "
        f"step of {sampler.batch_size} x {sampler.num_replicas} process(es): lower batch_size_per_gpu or raise "
        "dataset_enlarge_ratio"
    )
