"""The examples run as their first lines say."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

from macr_plugin import Deblurrer

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def restored_registries(monkeypatch):
    """What an example registers is gone after its test."""
    for registry in (ARCH_REGISTRY, LOSS_REGISTRY):
        monkeypatch.setattr(registry, "_obj_map", dict(registry._obj_map))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_network", "own_loss"])
def test_a_part_of_ones_own_trains(name, working_folder, run_python):
    shutil.copytree(EXAMPLES, "examples")
    (command,) = re.findall(r"^python (.*)$", (EXAMPLES / f"{name}.py").read_text(), re.MULTILINE)
    short = ["train:total_iter=4", "val:val_freq=4", "logger:print_freq=1", "logger:save_checkpoint_freq=4"]
    status, output = run_python(*command.split(), "--force_yml", *short)
    assert status == 0, output
    assert re.search(r"# psnr: \d", output)
    state = torch.load(f"experiments/{name}/models/net_g_4.pth", weights_only=True)
    assert ("middle.weight" in state["params"]) == (name == "own_network")
    runpy.run_path(f"examples/{name}.py")
    assert Deblurrer(f"experiments/{name}").restore(np.zeros((33, 40, 3), np.uint8)).shape == (33, 40, 3)


def test_a_folder_is_deblurred(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / "holiday", tmp_path / "sharp"
    source.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        picture = cv2.GaussianBlur(generator.integers(0, 256, (40, 50, 3), np.uint8), (0, 0), 2)
        cv2.imwrite(str(source / name), picture)
    (source / "notes.txt").write_text("no picture")
    monkeypatch.setattr(sys, "argv", ["deblur_folder.py", str(source), str(target)])
    runpy.run_path(str(EXAMPLES / "deblur_folder.py"), run_name="__main__")
    assert sorted(path.name for path in target.iterdir()) == ["a.png", "b.jpg"]
    assert cv2.imread(str(target / "a.png")).shape == (40, 50, 3)
    assert re.fullmatch(r"(\w\.\w+: sharpness \d+ -> \d+\n){2}", capsys.readouterr().out)
