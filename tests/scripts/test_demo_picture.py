import runpy
import sys
from pathlib import Path

import basicsr  # noqa: F401  registers the networks
import cv2
import numpy as np
import pytest
import torch
import yaml
from saved_pictures import save_pair

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.visualization import CAPTION_HEIGHT, LINE_HEIGHT

SCRIPT = Path(__file__).parents[2] / "scripts/demo_picture.py"
NETWORK = {"num_feat": 8, "num_blocks": 1, "branch_channels": 2}
# "trained here, 24.00 dB" takes two lines above a picture of 120 pixels.
CAPTIONS = CAPTION_HEIGHT + LINE_HEIGHT


@pytest.fixture
def pairs(tmp_path):
    sharp = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    sharp = cv2.GaussianBlur(sharp, (0, 0), 1)
    for number in (1, 2):
        save_pair(tmp_path / "pairs/cat", f"{number:06d}.png", sharp, cv2.blur(sharp, (9, 1)))
    return tmp_path / "pairs"


@pytest.fixture
def run(tmp_path, monkeypatch, pairs):
    """A training that has just begun, and the script with its arguments."""
    folder = tmp_path / "experiments/tiny"
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save({"params": MACR(**NETWORK).state_dict()}, folder / "models/net_g_latest.pth")
    (folder / "tiny.yml").write_text(yaml.safe_dump({"network_g": {"type": "MACR", **NETWORK}}))

    def run(*arguments):
        command = [
            "demo_picture.py",
            "--weights",
            f"{folder}=trained here",
            "--pairs",
            str(pairs),
            *map(str, arguments),
        ]
        monkeypatch.setattr(sys, "argv", command)
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run


def test_columns_are_the_versions_each_with_its_detail(run, tmp_path, pairs):
    run("--frames", "cat/000002", "--out", tmp_path / "demo.png")
    drawn = cv2.imread(str(tmp_path / "demo.png"))
    blurred, sharp = (cv2.imread(str(pairs / f"cat/{kind}/000002.png")) for kind in ("blur", "sharp"))
    # Blurred, restored, sharp, 120 pixels wide with gaps of 4; the detail, 64 by 85, fits once below.
    assert drawn.shape == (CAPTIONS + 96 + 4 + 64, 3 * 120 + 2 * 4, 3)
    for left, version in ((0, blurred), (248, sharp)):
        shown = drawn[CAPTIONS : CAPTIONS + 96, left : left + 120]
        assert np.median(np.abs(shown.astype(int) - version)) == 0


def test_all_frames_below_each_other_as_jpeg(run, tmp_path):
    run("--out", tmp_path / "demo.jpg")
    assert cv2.imread(str(tmp_path / "demo.jpg")).shape == (2 * (CAPTIONS + 164) + 4, 368, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--frames", "dog/000001", "--out", "demo.png"), "--frames dog/000001: choose from cat/000001, cat/000002"),
        (("--out", "demo.gif"), "--out demo.gif: give a name that ends in .png or .jpg"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == f"demo_picture.py: error: {message}"
