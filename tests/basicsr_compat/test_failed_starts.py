"""Folders of runs that end before their first step."""

import sys
from pathlib import Path

import pytest
from basicsr.models.base_model import BaseModel
from basicsr.utils import misc

from macr_plugin.basicsr_compat.failed_starts import no_folders_of_failed_starts
from macr_plugin.errors import InputError


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Make the folders of a run as BasicSR does, with what it leaves in them, and end it."""
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", "options/run.yml"])

    def start(error, during=lambda folder: None):
        folder, logs = tmp_path / "experiments" / "run", tmp_path / "tb_logger" / "run"

        @no_folders_of_failed_starts()
        def run():
            path = {"experiments_root": str(folder), "models": str(folder / "models"), "log": str(folder)}
            misc.make_exp_dirs({"is_train": True, "path": path})
            misc.mkdir_and_rename(str(logs))
            (folder / "run.yml").write_text("name: run")
            (folder / "train_run_1.log").write_text("started")
            (logs / "events.out.tfevents.1").touch()
            during(folder)
            raise error

        with pytest.raises(type(error)):
            run()
        return {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    return start


LEFT = {"experiments/run/run.yml", "experiments/run/train_run_1.log", "tb_logger/run/events.out.tfevents.1"}


def test_bad_input_leaves_nothing(start, tmp_path):
    assert start(InputError("bad")) == set()
    assert not list(tmp_path.iterdir())


def test_other_errors_keep_their_log(start):
    assert start(RuntimeError("ours")) == LEFT


def test_a_run_that_took_a_step_keeps_its_log(start):
    model = object.__new__(BaseModel)
    model.schedulers = []
    assert start(InputError("bad"), lambda folder: model.update_learning_rate(1)) == LEFT


@pytest.mark.parametrize("name", ["models/net_g_1.pth", "models/notes.log", "picture.png", "other.yml"])
def test_anything_else_keeps_all(start, name):
    left = start(InputError("bad"), lambda folder: (folder / name).touch())
    assert left == {f"experiments/run/{name}", *LEFT}


def test_earlier_runs_are_not_touched(start, tmp_path):
    for name in ("run", "other"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "train_1.log").touch()
    left = sorted(Path(path).parts[1].split("_archived_")[0] for path in start(InputError("bad")))
    assert left == ["other", "run"]
    assert not (tmp_path / "experiments" / "run").exists(), "BasicSR renamed it"
