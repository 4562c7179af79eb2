"""Patches of how BasicSR's loader and its workers draw the training data."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

from macr_plugin.basicsr_compat.patching import Options, replace_everywhere
from macr_plugin.basicsr_compat.signals import leave_signals_to_parent


def seed_worker(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Seed a data loading worker from torch's seed of it, which is new in every epoch and in every process.

    A sample whose number tells its epoch and draw gets generators seeded by them: it is the same for any number of
    workers and after a resume during an epoch.

    Args:
        worker_id: As torch's ``worker_init_fn`` gets it; the remaining arguments are BasicSR's.
        num_workers: Not used.
        rank: Not used.
        seed: Of the training.
    """
    import torch

    seed_generators(torch.initial_seed() % 2**32)
    worker = torch.utils.data.get_worker_info()
    if worker is not None:
        leave_signals_to_parent()
        seed_each_draw(worker.dataset, seed)


def seed_generators(seed: int) -> None:
    """Seed the generators that data sets draw from, but for torch's."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)


def seed_each_draw(dataset: Any, seed: int) -> None:
    """Let a data set draw each sample from the seed of the training, the epoch and the draw.

    Args:
        dataset: A worker's own copy; changed in place.
        seed: Of the training.
    """
    import torch

    original = type(dataset)

    def seeded_getitem(self: Any, index: Any) -> Any:
        if hasattr(index, "draw"):
            number = random.Random(f"{seed} {index.epoch} {index.draw}").getrandbits(32)  # noqa: S311  crops, no secret
            seed_generators(number)
            torch.manual_seed(number)
        return original.__getitem__(self, index)

    dataset.__class__ = type(original.__name__, (original,), {"__getitem__": seeded_getitem})


def patch_worker_seeds() -> None:
    """Make workers draw other crops and flips in every epoch; BasicSR seeds them with a constant."""
    import basicsr.data

    if repeats_seeds(basicsr.data.worker_init_fn):
        replace_everywhere(basicsr.data.worker_init_fn, seed_worker)


def repeats_seeds(worker_init_fn: Callable[..., None]) -> bool:
    """Whether a BasicSR ``worker_init_fn`` ignores torch's seed; leaves every generator as it was."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    draws = []
    with torch.random.fork_rng(devices=[]):
        for torch_seed in (0, 1):
            torch.manual_seed(torch_seed)
            worker_init_fn(worker_id=0, num_workers=1, rank=0, seed=0)
            draws.append(random.random())  # noqa: S311  compared, no secret
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    return draws[0] == draws[1]


def log_effective_batch() -> None:
    """Log how many pictures one step really uses: per process times processes."""
    import basicsr.data
    from basicsr.utils import get_root_logger
    from basicsr.utils.dist_util import get_dist_info

    build_dataloader = basicsr.data.build_dataloader

    @functools.wraps(build_dataloader)
    def logging_build_dataloader(dataset: Any, dataset_opt: Options, *args: Any, **kwargs: Any) -> Any:
        loader = build_dataloader(dataset, dataset_opt, *args, **kwargs)
        if dataset_opt["phase"] == "train":
            _, processes = get_dist_info()
            get_root_logger().info(
                f"Effective batch: {loader.batch_size} per process x {processes} process(es) "
                f"= {loader.batch_size * processes}"
            )
        return loader

    replace_everywhere(build_dataloader, logging_build_dataloader)
