"""The benchmark of the readers runs and tells what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_data.py"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), "--quick", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.slow
def test_table_figures_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ("--json", tmp_path / "a.json", "--plot", tmp_path / "a.png", "--folder", tmp_path)
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["machine"]["cores"]
    assert len(report["contenders"]) == 8
    for contender in report["contenders"]:
        assert f"| {contender['name']} | " in result.stdout
        assert contender["warm"][0] > 0
        assert contender["cold"][0] > 0
        assert all(milliseconds > 0 for milliseconds in contender["stages"].values())
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.png"], "the frames are gone"


@pytest.mark.slow
def test_soak_reports_memory_of_all_processes(tmp_path):
    result = run("--soak", 10, "--json", tmp_path / "a.json", "--folder", tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "a.json").read_text())["soak"]
    assert report["MiB at the start"].keys() == report["MiB at the end"].keys() == {"main", "worker 0", "worker 1"}
