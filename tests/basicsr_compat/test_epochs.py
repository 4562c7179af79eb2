"""Epochs: every training takes all its steps, in BasicSR's order, also across a resume."""

from pathlib import Path
from types import SimpleNamespace

import basicsr.data
import basicsr.train
import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.models.base_model import BaseModel
from torch.utils.data import DataLoader, Dataset

from macr_plugin.basicsr_compat import epochs
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.errors import InputError


@pytest.mark.parametrize(("ranks", "ratio"), [(1, 1), (1, 5), (3, 1), (2, 4)])
def test_sampler_keeps_the_order_and_numbers_the_draws(ranks, ratio):
    dataset = range(7)
    stock = basicsr.train.EnlargedSampler
    epochs.patch_epochs(DrawnIndex)
    patched = basicsr.train.EnlargedSampler
    assert issubclass(patched, stock)
    for epoch in (0, 3):
        draws = []
        for rank in range(ranks):
            samplers = [sampler(dataset, ranks, rank, ratio) for sampler in (stock, patched)]
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
    epochs.patch_epochs(DrawnIndex)
    sampler = basicsr.train.EnlargedSampler(Indices(), 1, 0, 2)
    loader = DataLoader(
        Indices(), sampler=sampler, batch_size=2, num_workers=num_workers, persistent_workers=bool(num_workers)
    )
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        expected = [[index, epoch, index.draw] for index in sampler]
        assert torch.cat(list(loader)).tolist() == expected


def test_stock_dataset_takes_the_patched_indices(tmp_path):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    Path(tmp_path, "a.png").write_bytes(cv2.imencode(".png", np.full((8, 8, 3), 9, np.uint8))[1].tobytes())
    folders = {"dataroot_gt": str(tmp_path), "dataroot_lq": str(tmp_path)}
    augmentation = {"gt_size": 4, "use_hflip": True, "use_rot": True}
    dataset = PairedImageDataset(
        {"phase": "train", "scale": 1, "io_backend": {"type": "disk"}, **folders, **augmentation}
    )
    epochs.patch_epochs(DrawnIndex)
    opt = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": 1}
    sampler = basicsr.train.EnlargedSampler(dataset, 1, 0, 4)
    batches = list(basicsr.data.build_dataloader(dataset, opt, sampler=sampler, seed=0))
    assert [batch["gt"].shape for batch in batches] == [(2, 3, 4, 4)] * 2


class Pairs(Dataset):
    """A stand-in of so many pairs."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"draw": torch.tensor([index.epoch, index.draw])}


class BatchNumbers:
    """BasicSR's prefetcher without reading: gives the numbers of each batch."""

    def __init__(self, loader):
        self.loader = loader
        self.reset()

    def reset(self):
        self.batches = iter(self.loader.batch_sampler)

    def next(self):
        return next(self.batches, None)


class CountingModel(BaseModel):
    """Takes steps that do nothing and remembers their batches."""

    def __init__(self, opt):
        super().__init__(opt)
        self.batches, self.iterations, self.saved = [], 0, None

    def feed_data(self, data):
        self.batch = data

    def optimize_parameters(self, current_iter):
        self.iterations += 1
        assert self.iterations + self.opt["start"] == current_iter
        if self.opt["keep"]:
            self.batches.append(self.batch)

    def save(self, epoch, current_iter):
        if current_iter != -1:
            self.saved = {"epoch": epoch, "iter": current_iter, "optimizers": [], "schedulers": []}

    def get_current_learning_rate(self):
        return [0.0]

    def get_current_log(self):
        return {}


@pytest.fixture
def loop(monkeypatch, tmp_path):
    """Run BasicSR's own loop over a stand-in, as one of so many processes; returns the model."""
    epochs.patch_epochs(DrawnIndex)
    monkeypatch.setattr(basicsr.train, "CPUPrefetcher", BatchNumbers)
    monkeypatch.setattr(basicsr.train, "copy_opt_file", lambda *args: None)
    monkeypatch.setattr(basicsr.train, "make_exp_dirs", lambda opt: None)

    def run(pairs, batch, total_iter, processes=1, rank=0, ratio=1, state=None, num_gpu=0, keep=True, save=10**9):
        opt = {
            "name": "stand-in",
            "num_gpu": num_gpu,
            "dist": processes > 1,
            "rank": rank,
            "world_size": processes,
            "manual_seed": 0,
            "is_train": True,
            "auto_resume": False,
            "datasets": {
                "train": {
                    "name": "a",
                    "phase": "train",
                    "batch_size_per_gpu": batch,
                    "num_worker_per_gpu": 0,
                    "dataset_enlarge_ratio": ratio,
                }
            },
            "path": {"log": str(tmp_path), "experiments_root": str(tmp_path)},
            "train": {"total_iter": total_iter},
            "logger": {"print_freq": 10**9, "save_checkpoint_freq": save, "use_tb_logger": False},
            "start": state["iter"] if state else 0,
            "keep": keep,
        }
        model = CountingModel(opt)
        monkeypatch.setattr(basicsr.train, "parse_options", lambda *args, **kw: (opt, SimpleNamespace(opt="")))
        monkeypatch.setattr(basicsr.train, "load_resume_state", lambda opt: state)
        monkeypatch.setattr(basicsr.train, "build_dataset", lambda opt: Pairs(pairs))
        monkeypatch.setattr(basicsr.train, "build_model", lambda opt: model)
        basicsr.train.train_pipeline(str(tmp_path))
        return model

    return run


@pytest.mark.parametrize(
    ("pairs", "batch", "ratio", "processes", "num_gpu"),
    [
        (3, 2, 1, 1, 0),
        (3, 3, 1, 1, 0),
        (7, 2, 1.5, 1, 0),
        (3, 1, 5, 4, 0),
        (5, 2, 1, 2, 0),
        (9, 4, 1, 2, 0),
        pytest.param(9, 2, 1, 1, 4, id="DataParallel multiplies the batch"),
    ],
)
@pytest.mark.parametrize("total_iter", [1, 20, 101])
def test_every_training_takes_all_its_steps(loop, pairs, batch, ratio, processes, num_gpu, total_iter):
    model = loop(pairs, batch, total_iter, processes, ratio=ratio, num_gpu=num_gpu)
    assert model.iterations == total_iter
    assert {len(indices) for indices in model.batches} == {batch * max(num_gpu, 1)}
    numbers = [(index.epoch, index.draw) for indices in model.batches for index in indices]
    assert len(set(numbers)) == len(numbers), "no draw comes twice"
    assert model.batches[-1][0].epoch == (total_iter - 1) // (
        epoch_size(pairs, ratio, processes) // (batch * max(num_gpu, 1))
    )


def epoch_size(pairs, ratio, processes):
    return -int(-pairs * ratio // processes)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("stop", [1, 4, 11, 19])
def test_a_resume_goes_on_with_the_next_batch(loop, processes, stop):
    whole = loop(7, 2, 20, processes).batches
    state = {"epoch": 99, "iter": stop, "optimizers": [], "schedulers": []}
    assert loop(7, 2, 20, processes, state=state).batches == whole[stop:]
    numbers = [[index.draw for index in indices] for indices in whole]
    resumed = loop(7, 2, 20, processes, state=state).batches
    assert [[index.draw for index in indices] for indices in resumed] == numbers[stop:]


def test_other_processes_go_on_in_the_same_order(loop):
    """Two processes of batch 2, then one of batch 4, then two again, on a set that two cannot share out evenly."""

    def steps(processes, batch, first, last):
        state = {"epoch": 0, "iter": first, "optimizers": [], "schedulers": [], "order_of_processes": 2}
        ranks = [
            loop(7, batch, last, processes, rank, state=dict(state) if first else None).batches
            for rank in range(processes)
        ]
        return [sorted(index.draw for share in shares for index in share) for shares in zip(*ranks, strict=True)]

    undisturbed = steps(2, 2, 0, 12)
    assert steps(2, 2, 0, 5) + steps(1, 4, 5, 8) + steps(2, 2, 8, 12) == undisturbed


def test_fewer_processes_than_before_do_not_end_the_training(loop):
    state = {"epoch": 40, "iter": 100, "optimizers": [], "schedulers": []}
    assert loop(9, 2, 130, 1, state=state).iterations == 30


def test_a_finished_training_takes_no_further_step(loop):
    state = {"epoch": 0, "iter": 20, "optimizers": [], "schedulers": []}
    assert loop(3, 2, 20, state=state).iterations == 0


@pytest.mark.parametrize(
    ("pairs", "batch", "processes", "num_gpu"), [(3, 4, 1, 0), (3, 3, 2, 0), (0, 1, 1, 0), (3, 1, 1, 4)]
)
def test_a_set_that_fills_no_batch_is_refused(loop, pairs, batch, processes, num_gpu):
    with pytest.raises(InputError, match=rf"{pairs} samples x dataset_enlarge_ratio 1 do not fill one step of \d"):
        loop(pairs, batch, 3, processes, num_gpu=num_gpu)


@pytest.mark.parametrize(("pairs", "batch"), [(3, 2), (7, 4)])
def test_a_set_that_is_shared_out_with_a_repetition_fills_its_batches(loop, pairs, batch):
    assert loop(pairs, batch, 3, processes=2).iterations == 3


def test_the_log_names_the_epoch_and_the_time_left(loop, monkeypatch, caplog):
    import logging

    logger = basicsr.utils.get_root_logger()
    logger.propagate = True
    logger.setLevel(logging.INFO)
    loop(3, 2, 20)
    message_logger = basicsr.train.MessageLogger(
        {"name": "a", "logger": {"print_freq": 1, "use_tb_logger": False}, "train": {"total_iter": 20}, **stand_in()}, 0
    )
    message_logger({"epoch": 10, "iter": 20, "lrs": [0.1], "time": 1.0, "data_time": 0.0})
    assert "epoch: 19, iter:      20" in caplog.text
    assert "eta: 0:00:00" in caplog.text


def stand_in():
    return {"datasets": {"train": {"batch_size_per_gpu": 2}}, "world_size": 1}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 4])
def test_the_paper_s_training_takes_all_its_steps(loop, processes):
    opt = yaml.safe_load((Path(__file__).parents[2] / "options" / "macr_gopro.yml").read_text())
    train = opt["datasets"]["train"]
    model = loop(2103, train["batch_size_per_gpu"], opt["train"]["total_iter"], processes, keep=False)
    assert model.iterations == 3_153_000 == 3000 * (2103 // 2)
