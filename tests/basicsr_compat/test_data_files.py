"""BasicSR's own data sets name what they cannot read."""

import re
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import DataLoader

from macr_plugin.basicsr_compat.data_files import patch_data_files
from macr_plugin.errors import InputError

FRAMES = 3
COMMON = {"phase": "val", "test_mode": True, "scale": 1, "cache_data": False, "num_frame": 1, "padding": "replicate"}
AUGMENTED = {"gt_size": 16, "use_hflip": False, "use_rot": False, "interval_list": [1], "random_reverse": False}
PAIRS = {"dataroot_lq": "lq/000", "dataroot_gt": "gt/000"}
FOLDERS = {"dataroot_lq": "lq", "dataroot_gt": "gt"}

#: Options of each data set, its name among them where BasicSR asks for a certain one.
SETS = {
    "PairedImageDataset": PAIRS,
    "SingleImageDataset": {"dataroot_lq": "lq/000"},
    "VideoTestDataset": {**FOLDERS, "name": "Vid4"},
    "REDSRecurrentDataset": {
        **FOLDERS,
        **AUGMENTED,
        "num_frame": 2,
        "meta_info_file": "clips.txt",
        "val_partition": "REDS4",
    },
}


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def frames(tmp_path, monkeypatch):
    """Frames 00000000.png and on in lq/000 and gt/000, below the current folder."""
    monkeypatch.chdir(tmp_path)
    for kind in ("lq", "gt"):
        Path(kind, "000").mkdir(parents=True)
        for number in range(FRAMES):
            cv2.imwrite(f"{kind}/000/{number:08d}.png", picture(number))
    Path("clips.txt").write_text(f"000 {FRAMES} (24,32,3)\n")
    patch_data_files()


def build(kind, **changes):
    opt = {"name": "mine", **COMMON, "io_backend": {"type": "disk"}, **SETS[kind], **changes}
    return DATASET_REGISTRY.get(kind)({"type": kind, **opt})


@pytest.mark.parametrize("kind", SETS)
def test_what_is_whole_is_read(kind):
    dataset = build(kind)
    assert "lq" in dataset[0]


def test_a_loop_over_a_data_set_ends():
    assert sum(1 for _ in build("PairedImageDataset")) == FRAMES


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_frame_that_vanishes_is_named(kind, workers):
    dataset = build(kind)
    for path in Path("lq/000").glob("*.png"):
        path.unlink()
    with pytest.raises(InputError) as caught:
        next(iter(DataLoader(dataset, num_workers=workers)))
    line = str(caught.value).strip().splitlines()[-1]
    assert re.search(r"datasets\.val (mine|Vid4): .*000", line), line


@pytest.mark.parametrize("kind", SETS)
def test_a_damaged_frame_is_named(kind):
    dataset = build(kind)
    for path in Path("lq/000").glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"datasets\.val \w+: .*000.*: missing or damaged"):
        dataset[0]


@pytest.mark.parametrize("kind", ["PairedImageDataset", "SingleImageDataset"])
def test_a_folder_that_is_not_there_is_named(kind):
    with pytest.raises(InputError, match=r"datasets\.val mine: .*nowhere: No such file or directory: correct the path"):
        build(kind, dataroot_lq="nowhere")


@pytest.mark.parametrize("kind", [kind for kind in SETS if "meta_info_file" in SETS[kind]])
def test_a_list_that_is_not_there_is_named(kind):
    with pytest.raises(InputError, match=r"datasets\.val mine: nowhere.txt: No such file or directory"):
        build(kind, meta_info_file="nowhere.txt")


@pytest.mark.parametrize("kind", SETS)
def test_a_missing_option_is_named(kind):
    opt = {"name": "mine", "phase": "train", "type": kind}
    with pytest.raises(InputError, match=r"datasets\.train mine: the option or entry '\w+' is missing"):
        DATASET_REGISTRY.get(kind)(opt)


def write_lmdb(folder, keys, listed):
    with lmdb.open(folder, map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for key in keys:
            transaction.put(key.encode(), cv2.imencode(".png", picture())[1].tobytes())
    Path(folder, "meta_info.txt").write_text("".join(f"{key}.png (24,32,3) 1\n" for key in listed))


def test_keys_that_an_lmdb_lacks_are_named():
    for name in ("lq", "gt"):
        write_lmdb(f"{name}.lmdb", ["a", "b"] if name == "gt" else ["a"], ["a", "b"])
    dataset = build("PairedImageDataset", dataroot_lq="lq.lmdb", dataroot_gt="gt.lmdb", io_backend={"type": "lmdb"})
    assert "lq" in dataset[0]
    with pytest.raises(InputError, match=r"datasets\.val mine: b and b: missing or damaged"):
        dataset[1]


def test_different_pairs_are_named():
    Path("lq/000/00000001.png").unlink()
    with pytest.raises(InputError, match=r"datasets\.val mine: .*lq and gt datasets have different number of images"):
        build("PairedImageDataset")


def test_the_data_sets_of_others_are_left_alone(monkeypatch):
    class Theirs:
        def __getitem__(self, index):
            raise ValueError("theirs")

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Theirs", Theirs)
    patch_data_files()
    with pytest.raises(ValueError, match=r"^theirs$"):
        Theirs()[0]
