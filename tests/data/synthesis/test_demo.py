import socket

import numpy as np
import pytest
import torch

from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.pairs import read_pair
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.synthesis import demo
from macr_plugin.errors import InputError


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "datasets/demo"
    assert demo.write_demo(out)
    return out


@pytest.fixture
def small(monkeypatch):
    """One pair a photograph, of one small size: what is tested does not depend on it."""
    monkeypatch.setattr(demo, "PAIRS_PER_PHOTO", {"train": 1, "test": 1})
    monkeypatch.setattr(demo, "PICTURE_SIZE", {"train": (64, 64), "test": (64, 64)})


def files_below(root):
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def lmdb_options(root, split):
    return {
        "phase": "val",
        "scale": 1,
        "io_backend": {"type": "lmdb"},
        "dataroot_lq": str(root / f"{split}_blur.lmdb"),
        "dataroot_gt": str(root / f"{split}_sharp.lmdb"),
    }


def test_scenes_of_training_and_testing_are_disjoint(demo_set):
    scenes = {split: {pair.key.split("/")[0] for pair in find_pairs(demo_set / split)} for split in ("train", "test")}
    assert scenes["train"] == {"astronaut", "motorcycle", "rocket"}
    assert scenes["test"] == {"chelsea", "coffee"}
    photos = {split: {photo for files in demo.SCENES[split].values() for photo in files} for split in ("train", "test")}
    assert not photos["train"] & photos["test"]
    assert demo.SCENES["train"]["motorcycle"] == ("motorcycle_left.png", "motorcycle_right.png")


def test_number_and_size_of_the_pictures(demo_set):
    for split, number, shape in (("train", 28, (352, 352, 3)), ("test", 6, (256, 384, 3))):
        pairs = find_pairs(demo_set / split)
        assert len(pairs) == number
        assert {read_pair(pair)[1].shape for pair in pairs} == {shape}
    assert sum(len(content) for content in files_below(demo_set).values()) < 40e6


def test_every_pair_is_blurred_in_its_own_way(demo_set):
    pairs = find_pairs(demo_set / "train") + find_pairs(demo_set / "test")
    assert len({pair.blur.read_bytes() for pair in pairs}) == len(pairs)
    for pair in pairs:
        blur, sharp = (picture.astype(float) for picture in read_pair(pair))
        psnr = 10 * np.log10(255**2 / ((blur - sharp) ** 2).mean())
        assert 15 < psnr < 36
        assert np.abs(np.diff(blur, axis=1)).mean() < 0.95 * np.abs(np.diff(sharp, axis=1)).mean()


@pytest.mark.parametrize("split", ["train", "test"])
def test_lmdbs_hold_the_pictures_and_stock_basicsr_reads_them(demo_set, split):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    pairs = find_pairs(demo_set / split)
    dataset = PairedImageDataset(lmdb_options(demo_set, split))
    assert len(dataset) == len(pairs)
    for number in range(0, len(pairs), 5):
        item = dataset[number]
        assert item["lq_path"] == item["gt_path"] == pairs[number].key
        for name, picture in zip(("lq", "gt"), read_pair(pairs[number]), strict=True):
            rgb = np.rint(item[name].numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
            np.testing.assert_array_equal(rgb[..., ::-1], picture)


def test_our_dataset_reads_folders_and_lmdbs_alike(demo_set):
    from_lmdb = DeblurPairDataset(lmdb_options(demo_set, "test"))
    options = {"phase": "val", "io_backend": {"type": "disk"}, "dataroot": str(demo_set / "test")}
    from_folder = DeblurPairDataset(options)
    assert len(from_lmdb) == len(from_folder) == 6
    for one, other in zip(from_lmdb, from_folder, strict=True):
        assert one["lq_path"] == other["lq_path"]
        assert torch.equal(one["lq"], other["lq"])
        assert torch.equal(one["gt"], other["gt"])


@pytest.mark.usefixtures("small")
def test_same_seed_gives_the_same_bytes_without_network(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo.write_demo(tmp_path / name, seed)
    one, again, other = (files_below(tmp_path / name) for name in ("a", "b", "c"))
    assert one == again
    assert one.keys() == other.keys()
    changed = {name for name in one if one[name] != other[name]}
    assert {name for name in one if "/blur/" in name} <= changed


@pytest.mark.usefixtures("small")
def test_second_run(tmp_path):
    assert demo.write_demo(tmp_path / "demo")
    first = files_below(tmp_path)
    assert not demo.write_demo(tmp_path / "demo")
    with pytest.raises(InputError, match="--force replaces it"):
        demo.write_demo(tmp_path / "demo", seed=1)
    assert files_below(tmp_path) == first
    assert demo.write_demo(tmp_path / "demo", seed=1, force=True)
    assert files_below(tmp_path).keys() == first.keys()
    assert files_below(tmp_path) != first


@pytest.mark.usefixtures("small")
def test_foreign_folder_is_kept_even_with_force(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="was not written by"):
        demo.write_demo(tmp_path, force=True)
    assert files_below(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.mark.usefixtures("small")
def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_marker", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.write_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_photograph_that_scikit_image_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PHOTO_FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"carries no astronaut\.png: install scikit-image"):
        demo.write_demo(tmp_path / "demo")


def test_negative_seed(tmp_path):
    with pytest.raises(InputError, match="negative"):
        demo.write_demo(tmp_path / "demo", seed=-1)
