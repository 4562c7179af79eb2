"""Loader, sampler and workers: each fault is there without its patch and gone with it."""

import functools
import random

import basicsr.data
import basicsr.train
import numpy as np
import torch
from torch.utils.data import Dataset

from macr_plugin.basicsr_compat import loading
from macr_plugin.data.datasets.drawn_index import DrawnIndex


class Draws(Dataset):
    """What a worker's generators draw."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.random()], dtype=torch.float64)


def epochs_of_draws(num_epochs):
    opt = {"phase": "train", "batch_size_per_gpu": 4, "num_worker_per_gpu": 1}
    torch.manual_seed(0)
    loader = basicsr.data.build_dataloader(Draws(), opt, seed=0)
    return [next(iter(loader)) for _ in range(num_epochs)]


def test_every_epoch_draws_anew():
    first, second = epochs_of_draws(2)
    assert torch.equal(first, second), "BasicSR repeats the draws of the first epoch"
    loading.patch_worker_seeds()
    first, second = epochs_of_draws(2)
    assert not torch.isclose(first, second).any()
    assert torch.equal(first, epochs_of_draws(1)[0]), "and the manual seed still decides"


def test_a_patched_worker_seed_is_left_alone():
    def seed_from_torch(worker_id, num_workers, rank, seed):
        random.seed(torch.initial_seed())

    basicsr.data.worker_init_fn = seed_from_torch
    loading.patch_worker_seeds()
    assert basicsr.data.worker_init_fn is seed_from_torch


def test_looking_for_the_fault_draws_nothing():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.random(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert loading.repeats_seeds(basicsr.data.worker_init_fn)
    assert not loading.repeats_seeds(loading.seed_worker)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected


def test_effective_batch_is_logged(caplog):
    import logging

    logger = basicsr.utils.get_root_logger()
    logger.propagate = True
    logger.setLevel(logging.INFO)
    loading.log_effective_batch()
    opt = {"phase": "train", "batch_size_per_gpu": 3, "num_worker_per_gpu": 0}
    basicsr.data.build_dataloader(Draws(), opt, num_gpu=1)
    assert "Effective batch: 3 per process x 1 process(es) = 3" in caplog.text


def test_draws_do_not_depend_on_workers_nor_on_where_an_epoch_goes_on():
    from torch.utils.data import DataLoader

    loading.patch_worker_seeds()
    numbers = [DrawnIndex(draw % 4, epoch, draw) for epoch in (0, 1) for draw in range(6)]

    def draws(numbers, num_workers, seed=0):
        init = functools.partial(basicsr.data.worker_init_fn, num_workers=num_workers, rank=0, seed=seed)
        loader = DataLoader(Draws(), 2, sampler=numbers, num_workers=num_workers, worker_init_fn=init)
        return torch.cat(list(loader))

    expected = draws(numbers, 1)
    assert len(expected.unique()) == expected.numel(), "each draw is another"
    assert torch.equal(draws(numbers, 2), expected)
    assert torch.equal(draws(numbers[4:], 2), expected[4:])
    assert not torch.isclose(draws(numbers, 1, seed=1), expected).any()
