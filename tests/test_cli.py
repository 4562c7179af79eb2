import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from saved_pictures import save_picture

import macr_plugin
from macr_plugin.cli import main
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.lmdb_format import read_meta_info
from macr_plugin.data.synthesis import demo


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "PAIRS_PER_PHOTO", {"train": 1, "test": 1})
    monkeypatch.setattr(demo, "PICTURE_SIZE", {"train": (64, 64), "test": (64, 64)})


def fails_with_one_line(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("macr: error: ")
    assert message.count("\n") == 1
    return message


def test_demo_goes_to_the_current_directory_and_names_the_next_command(tmp_path, capsys):
    assert main(["synthesize", "--demo"]) == 0
    assert len(find_pairs(tmp_path / "datasets/demo/train")) == 4
    said = capsys.readouterr().out
    assert "Written: pictures in datasets/demo" in said
    assert "python -m macr_plugin.train -opt options/macr_demo.yml" in said
    assert main(["synthesize", "--demo"]) == 0
    assert "Already there" in capsys.readouterr().out
    assert "--force" in fails_with_one_line(capsys, "synthesize", "--demo", "--seed", "1")
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
def test_bad_input_is_one_line(capsys, arguments, message):
    assert message in fails_with_one_line(capsys, "synthesize", *arguments)


@pytest.mark.parametrize(
    "arguments", [(), ("prepare",), ("synthesize",), ("synthesize", "--demo", "--photos", "x"), ("unknown",)]
)
def test_bad_arguments(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: macr" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"macr {macr_plugin.__version__}\n"


def save_pairs(folder, blurred="blur", sharp="sharp", name="a_000001.png"):
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    for kind in (blurred, sharp):
        save_picture(folder / kind / name, picture)


def test_prepare_gopro(tmp_path, capsys):
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
    assert "--force" in fails_with_one_line(capsys, *arguments[:-2], "--crop-step", "4")
    assert main([*arguments, "--crop-step", "4", "--force"]) == 0


def test_script_prepares_gopro(tmp_path):
    save_pairs(tmp_path / "GOPRO_Large/test")
    script = Path(__file__).parents[1] / "scripts/prepare_gopro.py"
    subprocess.run([sys.executable, script, "--root", "GOPRO_Large", "--out", "out"], check=True, capture_output=True)
    assert read_meta_info(tmp_path / "out/test_blur.lmdb") == ["a/000001"]


@pytest.mark.parametrize(
    ("arguments", "folder"), [(("hide",), "HIDE"), (("realblur", "--subset", "R"), "RealBlur/RealBlur_R")]
)
def test_prepare_hide_and_realblur(tmp_path, arguments, folder):
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
def test_prepare_with_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    assert message in fails_with_one_line(capsys, "prepare", *arguments, "--out", "out")
    assert not (tmp_path / "out").exists()


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom macr_plugin.cli import main\n"
        "try:\n    main(['synthesize', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'basicsr', 'skimage'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "--photos" in said
