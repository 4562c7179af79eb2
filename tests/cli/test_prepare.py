import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from saved_pictures import save_picture

from macr_plugin.cli import main
from macr_plugin.data.storage.lmdb_format import read_meta_info


def save_pairs(folder, blurred="blur", sharp="sharp", name="a_000001.png"):
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    for kind in (blurred, sharp):
        save_picture(folder / kind / name, picture)


def test_gopro(tmp_path, capsys, refusal):
    save_pairs(tmp_path / "GOPRO_Large/train/a", "blur_gamma", name="000001.png")
    arguments = ["prepare", "gopro", "--root", "GOPRO_Large", "--out", "datasets/GoPro", "--blur", "blur_gamma"]
    arguments += ["--storage", "crops", "--crop-size", "32", "--crop-step", "8", "--workers", "1"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "train: 1 pairs; the data set as published has 2103" in said
    assert "Needs about" in said
    assert "Written: datasets/GoPro/train_blur_crops.lmdb and datasets/GoPro/train_sharp_crops.lmdb" in said
    assert read_meta_info(tmp_path / "datasets/GoPro/train_blur_crops.lmdb")[-1] == "a/000001_s003"
    assert main(arguments) == 0
    assert "Already there" in capsys.readouterr().out
    assert "--force" in refusal(*arguments[:-2], "--crop-step", "4")
    assert main([*arguments, "--crop-step", "4", "--force"]) == 0


def test_the_script_prepares_gopro_too(tmp_path):
    save_pairs(tmp_path / "GOPRO_Large/test")
    script = Path(__file__).parents[2] / "scripts/prepare_gopro.py"
    subprocess.run([sys.executable, script, "--root", "GOPRO_Large", "--out", "out"], check=True, capture_output=True)
    assert read_meta_info(tmp_path / "out/test_blur.lmdb") == ["a/000001"]


@pytest.mark.parametrize(
    ("arguments", "folder"), [(("hide",), "HIDE"), (("realblur", "--subset", "R"), "RealBlur/RealBlur_R")]
)
def test_hide_and_realblur(tmp_path, arguments, folder):
    save_pairs(tmp_path / folder, "input", "target", "x.png")
    assert main(["prepare", *arguments, "--root", folder.split("/")[0], "--out", "out"]) == 0
    assert read_meta_info(tmp_path / "out/test_sharp.lmdb") == ["x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gopro", "--root", "nowhere"), "nowhere has neither train nor test"),
        (("gopro", "--root", "nowhere", "--crop-size", "64"), "--crop-size and --crop-step go with --storage crops"),
        (("gopro", "--root", "nowhere", "--storage", "crops", "--crop-step", "0"), "--crop-step is 0"),
        (("hide", "--root", "nowhere"), "nowhere is not a folder"),
        (("realblur", "--root", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path, refusal, arguments, message):
    assert message in refusal("prepare", *arguments, "--out", "out")
    assert not (tmp_path / "out").exists()
