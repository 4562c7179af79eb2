"""The benchmark of the validation runs and tells what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_validation.py"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), "--quick", "--device", "cpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.slow
def test_table_figures_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    for kind in ("lq", "gt"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            picture = np.random.default_rng(number).integers(256, size=(48, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / kind / f"{number}.png"), picture if kind == "gt" else cv2.blur(picture, (3, 3)))
    places = ("--lq", tmp_path / "lq", "--gt", tmp_path / "gt")
    result = run(*places, "--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["conditions"]["frame"] == "64x48"
    assert report["conditions"]["device"] == "cpu"
    assert [(one["part"], one["name"]) for one in report["contenders"]] == [
        *(("PSNR and SSIM", name) for name in ("BasicSR", "ours", "ours, two at once")),
        ("SSIM over the channels", "ours"),
        *(("whole validation", name) for name in ("BasicSR", "ours")),
    ]
    for contender in report["contenders"]:
        assert f"| {contender['part']} | {contender['name']} | " in result.stdout
        assert contender["rates"][0] > 0
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_missing_folder_is_one_line(tmp_path):
    result = run("--lq", tmp_path / "lq", "--gt", tmp_path)
    assert result.returncode == 2
    assert "lq is no folder: give --lq and --gt a folder of pictures or an LMDB each" in result.stderr
    assert "Traceback" not in result.stderr
