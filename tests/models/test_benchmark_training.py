"""The benchmark of the training loop runs and tells what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_training.py"


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
