"""Fixtures for the patches of BasicSR."""

import sys

import pytest
import torch
import yaml
from basicsr.utils import options

from macr_plugin.basicsr_compat import parsing, program
from macr_plugin.options.file import read_options


@pytest.fixture(autouse=True)
def patched_process(monkeypatch, restored_basicsr):
    """Every test here may patch BasicSR in this process."""
    monkeypatch.setenv(program.TRAINING_PROCESS_VARIABLE, "")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Write options, set the command line and call BasicSR's parser on them."""
    monkeypatch.chdir(tmp_path)

    def parse(changes=None, arguments=(), root=None, is_train=True):
        opt = {
            "name": "run",
            "model_type": "SRModel",
            "num_gpu": "auto",
            "manual_seed": 0,
            "datasets": {"train": {"name": "a", "type": "PairedImageDataset", "num_worker_per_gpu": 1}},
            "path": {"pretrain_network_g": None},
            "logger": {"print_freq": 1},
        }
        for key, value in (changes or {}).items():
            if isinstance(value, dict):
                opt.setdefault(key, {}).update(value)
            else:
                opt[key] = value
        path = tmp_path / "options.yml"
        path.write_text(yaml.safe_dump(opt))
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path), *arguments])
        return options.parse_options(str(root or tmp_path), is_train)[0]

    return parse


@pytest.fixture
def pretend_gpus(monkeypatch):
    """Let torch count so many GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)

    return pretend


@pytest.fixture
def patch_options():
    """Patch the parser, with the plugin's reader and a check that takes everything."""

    def patch(check=lambda opt, path, forced, is_train, may_resume: None):
        parsing.patch_options(read_options, check)

    return patch
