"""The benchmark of the training loop runs and tells what it measured."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import benchmark_training

SCRIPT = Path(benchmark_training.__file__)


@pytest.mark.slow
def test_table_figures_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    size = ["--batch", "2", "--crop", "48", "--num-feat", "8", "--num-blocks", "1", "--frames", "2", "--images", "4"]
    output = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png"), "--folder", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--epochs", "1", *size, *output], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    contenders = report["batches"]["2"]
    assert len(contenders) >= 5
    for contender in contenders:
        assert f"| {contender['name']} | " in result.stdout
        (figures,) = contender["runs"]
        assert figures["images a second"] > 0
        assert figures["memory in bytes"] > 2**20
        assert 0 <= figures["waiting for data"] < 1
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.png"], "the frames are gone"


def test_how_busy_the_gpu_was_is_known_after_the_training(tmp_path, monkeypatch):
    """With a program in the place of nvidia-smi, which is 100 % busy from the third reading on."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0\\n0\\n'; for i in $(seq 50); do echo 100; done; exec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    begun = time.perf_counter()
    with benchmark_training.gpu_utilisation() as utilisation:
        time.sleep(0.5)
    assert utilisation(begun + 0.3, begun + 1) == 1
    assert utilisation(begun, begun + 0.45) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("has_gpu", [False, True])
def test_without_a_gpu_or_its_program_nothing_is_said_about_it(tmp_path, monkeypatch, has_gpu):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    with benchmark_training.gpu_utilisation() as utilisation:
        pass
    assert utilisation(0, 1) is None
