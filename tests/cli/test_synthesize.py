import json

import cv2
import numpy as np
import pytest

from macr_plugin.cli import main
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.synthesis import demo


@pytest.fixture(autouse=True)
def small_demo(monkeypatch):
    monkeypatch.setattr(demo, "PAIRS_PER_PHOTO", {"train": 1, "test": 1})
    monkeypatch.setattr(demo, "PICTURE_SIZE", {"train": (64, 64), "test": (64, 64)})


def test_demo_goes_to_the_current_directory_and_names_the_next_command(tmp_path, capsys, refusal):
    assert main(["synthesize", "--demo"]) == 0
    assert len(find_pairs(tmp_path / "datasets/demo/train")) == 4
    said = capsys.readouterr().out
    assert "Written: pictures in datasets/demo" in said
    assert "python -m macr_plugin.train -opt options/macr_demo.yml" in said
    assert main(["synthesize", "--demo"]) == 0
    assert "Already there" in capsys.readouterr().out
    assert "--force" in refusal("synthesize", "--demo", "--seed", "1")
    assert main(["synthesize", "--demo", "--seed", "1", "--force"]) == 0


def test_photos(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photos/street.png"), picture)
    arguments = ["synthesize", "--photos", "photos", "--out", "mine/train", "--pairs", "2", "--extent", "1", "3"]
    assert main([*arguments, "--size", "50", "30", "--averaging", "encoded", "--workers", "1"]) == 0
    description = json.loads((tmp_path / "mine/train/synthesis.json").read_text())
    assert (description["size"], description["averaging"]) == ([30, 50], ["encoded"])
    assert [pair.key for pair in find_pairs(tmp_path / "mine/train")] == ["street/000001", "street/000002"]
    assert (tmp_path / "mine/train_sharp.lmdb/data.mdb").is_file()
    assert "mine/train_{blur,sharp}.lmdb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--photos", "nowhere", "--out", "x"), "nowhere is not a folder"),
        (("--photos", "nowhere"), "--photos needs --out"),
        (("--demo", "--pairs", "3"), "--pairs goes with --photos"),
        (("--demo", "--seed", "-1"), "negative"),
    ],
)
def test_bad_input_is_one_line(refusal, arguments, message):
    assert message in refusal("synthesize", *arguments)
