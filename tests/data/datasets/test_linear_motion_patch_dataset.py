import cv2
import numpy as np
import pytest
import torch
from saved_pictures import textured
from scipy.ndimage import correlate

from macr_plugin.archs.motion_field import CLASSES
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.datasets.linear_motion_patch_dataset import LinearMotionPatchDataset, blur_patch
from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.data.synthesis.response import decode, encode
from macr_plugin.errors import InputError


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), textured(70, 90, seed=number))

    def build(**changes):
        opt = {"phase": "train", "dataroot_gt": str(tmp_path / "photos"), "manual_seed": 3, "noise": [0, 0]}
        return LinearMotionPatchDataset({**opt, **changes})

    return build


def test_sample(dataset):
    patches = dataset(patches_per_photo=4)
    assert len(patches) == 12
    sample = patches[7]
    assert sample["lq"].shape == (3, 30, 30)
    assert sample["lq"].dtype == torch.float32
    assert 0 <= sample["lq"].min() < sample["lq"].max() <= 1
    assert 0 <= sample["label"] < 73
    assert sample["lq_path"] == "1.png"
    as_bytes = dataset(patches_per_photo=4, uint8=True, phase="val")[7]["lq"]
    assert as_bytes.dtype == torch.uint8
    assert torch.equal(as_bytes / 255, dataset(patches_per_photo=4, phase="val")[7]["lq"])


@pytest.mark.parametrize("averaging", ["encoded", "linear"])
def test_a_patch_is_a_part_of_the_photo_blurred_by_the_kernel_it_names(dataset, averaging):
    sample = dataset(phase="val", uint8=True, averaging=averaging)[1]
    kernel = CLASSES.kernels()[sample["label"]].numpy()
    # BGR to RGB.
    light = decode(textured(70, 90, seed=1)[..., ::-1], averaging).astype(float)
    blurred = np.stack([correlate(light[..., channel], kernel) for channel in range(3)], axis=-1)
    whole = encode(blurred, averaging)[12:-12, 12:-12].astype(int)
    patch = sample["lq"].permute(1, 2, 0).numpy().astype(int)
    places = np.lib.stride_tricks.sliding_window_view(whole, (30, 30, 3)).squeeze(2)
    assert np.abs(places - patch).max(axis=(2, 3, 4)).min() <= 1


def test_every_motion_is_drawn_equally_often(dataset):
    labels = [sample["label"] for sample in map(dataset(phase="val", patches_per_photo=730).__getitem__, range(2190))]
    counts = np.bincount(labels, minlength=73)
    # 30 each, give or take four standard deviations.
    assert np.abs(counts - 30).max() < 4 * 30**0.5


def test_epochs_differ_and_validation_does_not(dataset):
    train, fixed = dataset(), dataset(phase="val")
    first, again, later = (train[DrawnIndex(0, epoch, 0)]["lq"] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(fixed[2]["lq"], dataset(phase="val")[2]["lq"])
    assert not torch.equal(fixed[2]["lq"], dataset(phase="val", manual_seed=4)[2]["lq"])


def test_noise_has_the_strength_that_is_asked_for(dataset, tmp_path):
    (tmp_path / "grey").mkdir()
    cv2.imwrite(str(tmp_path / "grey" / "grey.png"), np.full((60, 60, 3), 128, np.uint8))
    patches = dataset(dataroot_gt=str(tmp_path / "grey"), noise=[4, 4], uint8=True, patches_per_photo=20)
    values = torch.stack([patches[index]["lq"] for index in range(20)]).float()
    assert values.std().item() == pytest.approx(4, rel=0.03)
    assert values.mean().item() == pytest.approx(128, abs=0.2)


def test_lmdb_and_folder_give_the_same(dataset, tmp_path):
    items = [(str(number), encode_png(textured(70, 90, seed=number))) for number in range(3)]
    write_image_lmdb(tmp_path / "photos.lmdb", items)
    from_lmdb = dataset(phase="val", dataroot_gt=str(tmp_path / "photos.lmdb"), io_backend={"type": "lmdb"}, cache=True)
    for index in range(3):
        assert torch.equal(from_lmdb[index]["lq"], dataset(phase="val")[index]["lq"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"averaging": "lin"}, "datasets.train.averaging is lin: choose linear or encoded"),
        ({"noise": [2, 1]}, r"datasets.train.noise \[2, 1\] is no range"),
        ({"noise": 1}, "datasets.train.noise 1 is no range"),
        ({"dataroot_gt": None}, "datasets.train.dataroot_gt is not set"),
        ({"io_backend": {"type": "file"}}, "datasets.train.io_backend has type file"),
    ],
)
def test_mistakes_are_named(dataset, changes, message):
    with pytest.raises(InputError, match=message):
        dataset(**changes)


def test_a_photo_that_is_too_small_is_named(dataset, tmp_path):
    cv2.imwrite(str(tmp_path / "photos" / "9.png"), textured(53, 80))
    with pytest.raises(InputError, match=r"9.png is 80x53, smaller than a patch .* 54x54"):
        dataset()[3]


def test_no_motion_leaves_the_middle():
    sharp = textured(54, 54)
    kernel = CLASSES.kernels()[0].numpy()
    assert np.array_equal(blur_patch(sharp, kernel, "encoded"), sharp[12:-12, 12:-12])
