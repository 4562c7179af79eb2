import subprocess
import sys

import cv2
import numpy as np
import pytest

import macr_plugin
from macr_plugin.cli import main
from macr_plugin.data import demo
from macr_plugin.data.gopro import find_pairs


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
    assert main(arguments) == 0
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


@pytest.mark.parametrize("arguments", [(), ("synthesize",), ("synthesize", "--demo", "--photos", "x"), ("unknown",)])
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


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom macr_plugin.cli import main\n"
        "try:\n    main(['synthesize', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'basicsr', 'skimage'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "--photos" in said
