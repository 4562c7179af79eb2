"""Samples that cannot be read end a training with their name, or are replaced, counted, in a fixed way."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils import get_root_logger

from macr_plugin.data.datasets.bad_samples import SKIPPED
from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.datasets.linear_motion_patch_dataset import LinearMotionPatchDataset
from macr_plugin.data.datasets.synthetic_motion_blur_dataset import SyntheticMotionBlurDataset
from macr_plugin.errors import InputError

SIZE = 80


@pytest.fixture
def folder(tmp_path):
    """Five pairs of one colour each, of which the third and the last blurred picture are damaged."""
    for kind in ("blur", "sharp"):
        (tmp_path / kind).mkdir()
        for number in range(5):
            cv2.imwrite(str(tmp_path / kind / f"{number}.png"), np.full((SIZE, SIZE, 3), 40 * number, np.uint8))
    for number in (2, 4):
        damage(tmp_path / "blur" / f"{number}.png")
    return tmp_path


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


def pairs(folder, **changes):
    places = {"dataroot_lq": str(folder / "blur"), "dataroot_gt": str(folder / "sharp"), "io_backend": {"type": "disk"}}
    return DeblurPairDataset({"phase": "train", "gt_size": 16, **places, **changes})


def test_by_default_a_training_stops_and_names_file(folder):
    for changes in ({}, {"on_bad_sample": "stop"}):
        with pytest.raises(InputError, match=r"blur/2\.png"):
            pairs(folder, **changes)[2]
        assert SKIPPED not in pairs(folder, **changes)[1]


def test_the_next_sample_that_can_be_read_stands_in(folder):
    dataset = pairs(folder, on_bad_sample="skip")
    assert [dataset[number]["lq_path"] for number in range(5)] == ["0", "1", "3", "3", "0"]
    reasons = [dataset[number][SKIPPED] for number in range(5)]
    assert [bool(reason) for reason in reasons] == [False, False, True, False, True]
    assert str(folder / "blur" / "2.png") in reasons[2]


def test_the_draw_is_that_of_the_sample_in_whose_place_it_is(folder):
    """Crops are keyed by the draw: a resume, and any number of workers, see the same pictures."""
    rows = np.arange(SIZE, dtype=np.uint8)
    for kind in ("blur", "sharp"):
        cv2.imwrite(str(folder / kind / "3.png"), np.repeat(np.tile(rows[:, None], (1, SIZE))[..., None], 3, axis=2))
    dataset = pairs(folder, on_bad_sample="skip")
    drawn = DrawnIndex(2, epoch=1, draw=7)
    torch.testing.assert_close(dataset[drawn]["lq"], dataset[DrawnIndex(3, epoch=1, draw=7)]["lq"])
    assert not torch.equal(dataset[drawn]["lq"], dataset[DrawnIndex(3, epoch=1, draw=8)]["lq"])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_of_the_other_samples_stays(folder, workers):
    order = [DrawnIndex(number, 0, draw) for draw, number in enumerate((4, 0, 2, 3, 1, 2))]
    loader = torch.utils.data.DataLoader(pairs(folder, on_bad_sample="skip"), 2, sampler=order, num_workers=workers)
    batches = list(loader)
    assert [batch["lq_path"] for batch in batches] == [["0", "0"], ["3", "3"], ["1", "3"]]
    assert [[bool(reason) for reason in batch[SKIPPED]] for batch in batches] == [
        [True, False],
        [True, False],
        [False, True],
    ]


def test_a_measurement_never_skips(folder):
    with pytest.raises(InputError, match=r"blur/2\.png"):
        pairs(folder, phase="val", on_bad_sample="skip")[2]


def test_a_set_without_a_single_good_sample_ends_the_training(folder):
    for number in range(5):
        damage(folder / "blur" / f"{number}.png")
    with pytest.raises(InputError, match=r"none of its 5 samples can be read, the first because .*blur/1\.png"):
        pairs(folder, on_bad_sample="skip")[1]


@pytest.mark.parametrize("kind", [SyntheticMotionBlurDataset, LinearMotionPatchDataset])
def test_rendered_samples_are_replaced_too(folder, kind):
    places = {"dataroot_gt": str(folder / "blur"), "io_backend": {"type": "disk"}}
    options = {"phase": "train", "gt_size": 16, "blur_extent": [1, 3], **places}
    if kind is LinearMotionPatchDataset:
        del options["gt_size"], options["blur_extent"]
    with pytest.raises(InputError, match=r"2\.png"):
        kind(options)[2]
    sample = kind({**options, "on_bad_sample": "skip"})[2]
    assert Path(sample["lq_path"]).stem == "3"
    assert "2.png" in sample[SKIPPED]


def test_the_log_counts_them(folder, caplog, monkeypatch):
    from macr_plugin.models.multiscale_model import MultiScaleDeblurModel

    model = object.__new__(MultiScaleDeblurModel)
    model.num_skipped = 0
    monkeypatch.setattr(get_root_logger(), "propagate", True)
    model._count_skipped(next(iter(torch.utils.data.DataLoader(pairs(folder, on_bad_sample="skip"), 5)))[SKIPPED])
    assert [record.getMessage().split(": ")[2] for record in caplog.records] == [
        "1 so far in this process",
        "2 so far in this process",
    ]
    assert "4.png" in caplog.records[1].getMessage()
