"""Real processes on real data: the demo set, a tiny network, BasicSR's loop in a subprocess."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from macr_plugin.data.synthesis.demo import write_demo

OPTIONS = Path(__file__).parents[2] / "options"


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory):
    """The demo set, made once; its folder is the ``datasets`` of every run."""
    folder = tmp_path_factory.mktemp("data") / "datasets"
    write_demo(folder / "demo")
    return folder


@pytest.fixture
def working_folder(tmp_path, demo_data, monkeypatch):
    """An empty folder with the demo data in it, as the current directory."""
    (tmp_path / "datasets").symlink_to(demo_data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_options(working_folder):
    """Write ``tiny.yml``: the demo's options, shrunk to seconds, with changes given as dotted keys."""
    template = yaml.safe_load((OPTIONS / "macr_demo.yml").read_text())

    def write(name="tiny.yml", **changes):
        opt = copy.deepcopy(template)
        tiny = {
            "name": "tiny",
            "datasets.train.gt_size": 48,
            "datasets.train.batch_size_per_gpu": 2,
            "datasets.train.dataset_enlarge_ratio": 1,
            "datasets.val.num_frames": 3,
            "network_g.num_feat": 8,
            "network_g.num_blocks": 1,
            "network_g.branch_channels": 2,
            "train.total_iter": 9,
            "train.scheduler.periods": [1000],
            "val.val_freq": 3,
            "val.comparison_frames": 2,
            "logger.print_freq": 1,
            "logger.save_checkpoint_freq": 3,
        }
        for key, value in {**tiny, **{key.replace("__", "."): value for key, value in changes.items()}}.items():
            *blocks, last = key.split(".")
            block = opt
            for step in blocks:
                block = block[step]
            block[last] = value
        Path(name).write_text(yaml.safe_dump(opt, sort_keys=False))
        return name

    return write


@pytest.fixture
def run_training(starter, tmp_path_factory):
    """Train in the current folder as ``python -m macr_plugin.train`` does; returns the exit status and the output.

    Of several processes the status is the first that is not 0, the output that of the first process.
    """

    def run(*arguments, timeout=300, ranks=1):
        folder = tmp_path_factory.mktemp("output")
        processes = starter.start_ranks(Path.cwd(), arguments, [folder / f"{rank}.txt" for rank in range(ranks)])
        statuses = [process.wait(timeout) for process in processes]
        return next(filter(None, statuses), 0), processes[0].output.read_text()

    return run


@pytest.fixture
def run_python():
    """Run the interpreter of the tests; returns the exit status and the whole output."""

    def run(*arguments, timeout=300, **environment):
        result = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return result.returncode, result.stdout

    return run
