"""Data that an option file names and that cannot be trained on, found before anything is built."""

import copy
from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import numpy as np
import pytest
import yaml
from saved_pictures import save_pair

from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.errors import InputErrors
from macr_plugin.options.check import check_option_file

BASE = yaml.safe_load((Path(__file__).parents[2] / "options" / "macr_gopro.yml").read_text())


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check options of three pairs of 64x64, in LMDBs and in GoPro's layout, with changes to ``datasets.train``."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(3):
        save_pair(Path("pairs/scene"), f"{number:06d}.png", generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("blur", "sharp"):
        write_image_lmdb(Path(f"{kind}.lmdb"), [(pair.key, getattr(pair, kind)) for pair in find_pairs(Path("pairs"))])
    good = copy.deepcopy(BASE)
    for dataset in good["datasets"].values():
        dataset.update(dataroot_lq="blur.lmdb", dataroot_gt="sharp.lmdb", io_backend={"type": "lmdb"})
    good["datasets"]["train"].update(gt_size=48)

    def check(path=None, may_resume=False, **changes):
        opt = copy.deepcopy(good)
        opt["datasets"]["train"].update(changes)
        opt["path"].update(path or {})
        Path("options.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
        check_option_file(opt, Path("options.yml"), may_resume=may_resume)

    return check


def test_good_data_pass(check):
    check()
    check(io_backend={"type": "disk"}, dataroot="pairs", dataroot_lq=None, dataroot_gt=None)
    check(batch_size_per_gpu=3)
    check(batch_size_per_gpu=30, dataset_enlarge_ratio=10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataroot_lq": "blr.lmdb"}, "datasets.train.dataroot_lq: blr.lmdb does not exist: correct the path"),
        ({"dataroot_lq": "pairs"}, "datasets.train: pairs is not an LMDB: it has no data.mdb"),
        (
            {"io_backend": {"type": "disk"}},
            "datasets.train: blur.lmdb is an LMDB and datasets.train.io_backend has type",
        ),
        ({"io_backend": {"type": "uncompressed_lmdb"}}, "datasets.train: blur.lmdb holds png pictures"),
        ({"io_backend": {"type": "disk"}, "dataroot": "sharp.lmdb"}, "datasets.train: "),
        ({"dataroot_lq": "./sharp.lmdb/"}, "datasets.train.dataroot_lq: is the same LMDB as dataroot_gt, sharp.lmdb"),
        ({"dataroot_gt": None}, "datasets.train: datasets.train.dataroot_gt is not set"),
        (
            {"batch_size_per_gpu": 4},
            "datasets.train.batch_size_per_gpu: is 4: 3 samples x dataset_enlarge_ratio 1 do not",
        ),
        ({"num_frames": 1}, "datasets.train.batch_size_per_gpu: is 2: 1 samples"),
        ({"gt_size": 65}, "datasets.train: sharp.lmdb: 'scene/000000' is 64x64, smaller than the crop of 65"),
    ],
)
def test_data_that_cannot_be_trained_on_are_named(check, changes, message):
    with pytest.raises(InputErrors) as caught:
        check(**changes)
    assert [line for line in caught.value.lines if line.split(" ", 1)[1].startswith(message)], str(caught.value)
    assert [line.split(":")[0] for line in caught.value.lines] == ["options.yml"] * len(caught.value.lines)


def test_every_process_needs_its_share_of_a_step(check, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputErrors, match=r"do not fill one step of 2 x 2 process\(es\)"):
        check()


@pytest.mark.parametrize("key", ["/tmp/evil", "../evil", "a/../../evil"])
def test_keys_that_lead_out_of_every_folder_are_refused(check, key):
    """Whatever writes a picture under its key, in a training, a test or a benchmark, never gets to see such a key."""
    for kind in ("blur", "sharp"):
        meta_info = Path(f"{kind}.lmdb", "meta_info.txt")
        meta_info.write_text(meta_info.read_text().replace("scene/000001.png", f"{key}.png"))
    with pytest.raises(InputErrors, match="which leads out of every folder"):
        check()


@pytest.mark.parametrize("key", ["pretrain_network_g", "resume_state"])
@pytest.mark.parametrize("name", ["absent.pth", "absent/10.state.pth", "absent", "~/absent.pth", "."])
def test_weights_and_states_that_are_not_there_are_named_with_the_data(check, key, name):
    if key == "pretrain_network_g":
        name = "folder.pth" if name == "." else name
        Path("folder.pth").mkdir()
    with pytest.raises(InputErrors) as caught:
        check(path={key: name}, dataroot_lq="absent.lmdb")
    assert len(str(caught.value).splitlines()) == 2
    assert f": path.{key}: {name} is no file" in str(caught.value)
    assert "datasets.train.dataroot_lq: absent.lmdb does not exist" in str(caught.value)


def test_weights_that_a_state_or_the_package_brings_need_no_file(check):
    Path("10.state").touch()
    check(path={"pretrain_network_g": "absent.pth", "resume_state": "10.state"})
    check(path={"pretrain_network_g": "absent.pth"}, may_resume=True)
    check(path={"pretrain_network_g": "macr-small"})


def test_the_home_folder_is_found_as_basicsr_finds_it(check, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("weights.pth", "10.state"):
        Path(name).touch()
    check(path={"pretrain_network_g": "~/weights.pth"})
    check(path={"resume_state": "~/10.state"})
