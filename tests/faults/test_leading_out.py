"""Data whose names lead out of every folder, an LMDB's keys and links: nothing is written outside of a run."""

from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
import yaml
from trainings import OPTIONS

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.cli import main

LMDB = {"type": "DeblurPairDataset", "io_backend": {"type": "lmdb"}}
STOCK_LMDB = {"type": "PairedImageDataset", "io_backend": {"type": "lmdb"}}


@pytest.fixture
def secret(tmp_path):
    """A folder beside that of the run, which nothing may be written to."""
    folder = tmp_path / "secret"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path, secret):
    """All that there is outside of the run's folder, with the time of its last change."""
    return lambda: {
        path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.glob("*.*"), secret, *secret.rglob("*")]
    }


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """The current folder, deep enough for some ``..`` to lead to that of the test."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)
    torch.save({"params": MACR(**network()).state_dict()}, "w.pth")
    return folder


def network():
    return {key: value for key, value in OPTIONS["network_g"].items() if key != "type"}


def png(seed):
    picture = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()


def write_lmdb(kind, keys):
    """An LMDB as BasicSR writes it, with keys that our writer refuses."""
    folder = Path(f"{kind}.lmdb")
    with lmdb.open(str(folder), map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for number, key in enumerate(keys):
            transaction.put(key.encode(), png(number))
    (folder / "meta_info.txt").write_text("".join(f"{key}.png (24,32,3) 1\n" for key in keys))
    return str(folder)


def lmdbs(*keys):
    return {"dataroot_lq": write_lmdb("blur", keys), "dataroot_gt": write_lmdb("sharp", keys)}


@pytest.fixture
def run_program(starter, run_folder):
    def run(program, data, model="MultiScaleDeblurModel"):
        """Train two steps with a validation, or test, with every picture saved; returns status and output."""
        Path("tiny.yml").write_text(yaml.safe_dump(program_options(program, data, model)))
        process = starter.start(run_folder, ["-opt", "tiny.yml"], run_folder / "output.txt", program)
        return process.wait(), process.output.read_text()

    return run


def program_options(program, data, model):
    opt = {**OPTIONS, "model_type": model, "num_gpu": 0, "val": {**OPTIONS["val"], "save_img": True, "val_freq": 2}}
    validation = {"name": "val", "num_worker_per_gpu": 0, **data}
    opt["train"] = {**OPTIONS["train"], "total_iter": 2}
    if model == "SRModel":
        del opt["train"]["scale_weights"], opt["val"]["keep_best"]
    training = {"name": "train", "gt_size": 16, "num_worker_per_gpu": 0, "batch_size_per_gpu": 2, **data}
    opt["datasets"] = {"train": {"use_hflip": False, "use_rot": False, **training}, "val": validation}
    if program == "test":
        opt = {key: opt[key] for key in ("name", "model_type", "scale", "num_gpu", "network_g", "val")}
        opt.update(datasets={"test_1": validation}, path={"pretrain_network_g": "w.pth"})
        opt["val"] = {key: opt["val"][key] for key in ("save_img", "metrics")} | {"suffix": None}
    return opt


def saved_pictures():
    return sorted(path for folder in ("experiments", "results") for path in Path(folder).rglob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "key"), [("train", "{secret}/evil"), ("train", "../../../../../secret/evil"), ("test", "{secret}/evil")]
)
def test_keys_that_lead_out_are_named_and_the_program_ends(run_program, secret, outside, program, key):
    before = outside()
    status, output = run_program(program, {**LMDB, **lmdbs("scene/000000", key.format(secret=secret))})
    assert status == 2, output
    assert "Traceback" not in output
    message = "which leads out of every folder: write the LMDB anew"
    lines = [line for line in output.splitlines() if ": error: " in line or message in line]
    # One line for each data set, as for all mistakes of an option file.
    assert len(lines) == (2 if program == "train" else 1), output
    assert all(message in line for line in lines), output
    assert outside() == before
    assert not saved_pictures()


@pytest.mark.parametrize("key", ["{secret}/evil", "../../../../../secret/evil"])
def test_keys_that_lead_out_end_a_benchmark_in_one_line(run_folder, secret, outside, key, capsys):
    paths = lmdbs("scene/000000", key.format(secret=secret))
    opt = {
        "dataset": {**paths, "io_backend": {"type": "lmdb"}},
        "comparison_frames": 2,
        "cost": {"sizes": [[16, 16]], "warm_up": 0, "runs": 1, "devices": ["cpu"]},
        "entries": [{"label": "MACR", "network": OPTIONS["network_g"], "weights": "w.pth"}],
    }
    Path("bench.yml").write_text(yaml.safe_dump(opt))
    before = outside()
    try:
        status = main(["benchmark", "-opt", "bench.yml", "--out", "report"])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert "which leads out of every folder: write the LMDB anew" in line
    assert "Written" not in printed.out
    assert outside() == before
    assert not list(Path("report").rglob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["MultiScaleDeblurModel", "SRModel"])
@pytest.mark.parametrize("program", ["train", "test"])
def test_a_stock_data_set_cannot_lead_out_either(run_program, secret, outside, program, model):
    """BasicSR's own data set takes such a key: what is saved under it stays in the folder of the run."""
    before = outside()
    status, output = run_program(program, {**STOCK_LMDB, **lmdbs("000000", f"{secret}/evil")}, model)
    assert status == 0, output
    assert outside() == before
    assert [path for path in saved_pictures() if "evil" in str(path)]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train", "test"])
def test_linked_scenes_are_read_and_nothing_is_written_there(run_program, secret, outside, program):
    for kind in ("blur", "sharp"):
        (secret / "scene" / kind).mkdir(parents=True)
        for number in range(2):
            (secret / "scene" / kind / f"{number:06d}.png").write_bytes(png(number))
    Path("data").mkdir()
    Path("data", "link").symlink_to(secret / "scene")
    before = outside()
    ours = {"type": "DeblurPairDataset", "io_backend": {"type": "disk"}, "dataroot": "data"}
    status, output = run_program(program, ours)
    assert status == 0, output
    assert outside() == before
    assert len([path for path in saved_pictures() if path.parent.name == "link" or "link" in str(path)]) == 2
