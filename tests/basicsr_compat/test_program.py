"""Which program is running."""

import os
import sys

import pytest
from basicsr.utils import options

from macr_plugin.basicsr_compat import program


@pytest.mark.parametrize(
    ("original", "arguments", "name"),
    [
        (["python", "-m", "basicsr.train", "-opt", "x.yml"], ["-m", "-opt", "x.yml"], "basicsr.train"),
        (["python", "-u", "-W", "ignore", "-m", "basicsr.test", "-opt", "x"], ["-m", "-opt", "x"], "basicsr.test"),
        (["python", "-um", "macr_plugin.train"], ["-m"], "macr_plugin.train"),
    ],
)
def test_module_that_runpy_is_about_to_run(monkeypatch, original, arguments, name):
    monkeypatch.setattr(sys, "orig_argv", original)
    monkeypatch.setattr(sys, "argv", arguments)
    assert program.main_module_name() == name
    assert program.is_training_program()


def test_pytest_is_no_training_program():
    assert not program.is_training_program()
    assert not hasattr(options.parse_options, "__wrapped__")


def test_script_of_a_checkout(tmp_path, monkeypatch):
    script = tmp_path / "basicsr" / "train.py"
    (tmp_path / "basicsr" / "models").mkdir(parents=True)
    script.touch()
    assert not program.is_basicsr_script(script), "a train.py in a folder that only shares the name"
    (tmp_path / "basicsr" / "models" / "base_model.py").touch()
    assert program.is_basicsr_script(script)
    assert not program.is_basicsr_script(script.with_name("inference.py"))


def test_worker_of_a_training_program(monkeypatch):
    monkeypatch.setenv(program.TRAINING_PROCESS_VARIABLE, str(os.getppid()))
    assert not program.is_training_worker(), "some program that the training started"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "spawn", "--multiprocessing-fork"])
    assert program.is_training_worker()
    monkeypatch.setenv(program.TRAINING_PROCESS_VARIABLE, "0")
    assert not program.is_training_worker(), "a worker of another program"
