"""Loader, sampler and workers: each fault is there without its mend and gone with it."""

import random
from pathlib import Path

import basicsr.data
import basicsr.train
import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from macr_plugin.basicsr_compat import loading
from macr_plugin.data.drawn_index import DrawnIndex


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
    loading.mend_worker_seeds()
    first, second = epochs_of_draws(2)
    assert not torch.isclose(first, second).any()
    assert torch.equal(first, epochs_of_draws(1)[0]), "and the manual seed still decides"


def test_a_mended_worker_seed_is_left_alone():
    def seed_from_torch(worker_id, num_workers, rank, seed):
        random.seed(torch.initial_seed())

    basicsr.data.worker_init_fn = seed_from_torch
    loading.mend_worker_seeds()
    assert basicsr.data.worker_init_fn is seed_from_torch


def test_looking_for_the_fault_draws_nothing():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.random(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert loading.repeats_seeds(basicsr.data.worker_init_fn)
    assert not loading.repeats_seeds(loading.seed_worker)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected


@pytest.mark.parametrize(("ranks", "ratio"), [(1, 1), (1, 5), (3, 1), (2, 4)])
def test_sampler_keeps_the_order_and_numbers_the_draws(ranks, ratio):
    dataset = range(7)
    stock = basicsr.train.EnlargedSampler
    loading.mend_sampler(DrawnIndex)
    mended = basicsr.train.EnlargedSampler
    assert issubclass(mended, stock)
    for epoch in (0, 3):
        draws = []
        for rank in range(ranks):
            samplers = [sampler(dataset, ranks, rank, ratio) for sampler in (stock, mended)]
            for sampler in samplers:
                sampler.set_epoch(epoch)
            expected, indices = (list(sampler) for sampler in samplers)
            assert indices == expected
            assert {index.epoch for index in indices} == {epoch}
            assert [index.draw % 7 for index in indices] == indices
            draws += [index.draw for index in indices]
        assert sorted(draws) == list(range(len(draws))), "no draw comes twice in an epoch"


class Indices(Dataset):
    """What a dataset is asked for, in whichever process."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([index, index.epoch, index.draw])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_draws_reach_kept_workers(num_workers):
    loading.mend_sampler(DrawnIndex)
    sampler = basicsr.train.EnlargedSampler(Indices(), 1, 0, 2)
    loader = DataLoader(
        Indices(), sampler=sampler, batch_size=2, num_workers=num_workers, persistent_workers=bool(num_workers)
    )
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        expected = [[index, epoch, index.draw] for index in sampler]
        assert torch.cat(list(loader)).tolist() == expected


def test_stock_dataset_takes_the_mended_indices(tmp_path):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    Path(tmp_path, "a.png").write_bytes(cv2.imencode(".png", np.full((8, 8, 3), 9, np.uint8))[1].tobytes())
    folders = {"dataroot_gt": str(tmp_path), "dataroot_lq": str(tmp_path)}
    augmentation = {"gt_size": 4, "use_hflip": True, "use_rot": True}
    dataset = PairedImageDataset(
        {"phase": "train", "scale": 1, "io_backend": {"type": "disk"}, **folders, **augmentation}
    )
    loading.mend_sampler(DrawnIndex)
    opt = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": 1}
    sampler = basicsr.train.EnlargedSampler(dataset, 1, 0, 4)
    batches = list(basicsr.data.build_dataloader(dataset, opt, sampler=sampler, seed=0))
    assert [batch["gt"].shape for batch in batches] == [(2, 3, 4, 4)] * 2


def test_effective_batch_is_logged(caplog):
    import logging

    logger = basicsr.utils.get_root_logger()
    logger.propagate = True
    logger.setLevel(logging.INFO)
    loading.log_effective_batch()
    opt = {"phase": "train", "batch_size_per_gpu": 3, "num_worker_per_gpu": 0}
    basicsr.data.build_dataloader(Draws(), opt, num_gpu=1)
    assert "Effective batch: 3 per process x 1 process(es) = 3" in caplog.text
