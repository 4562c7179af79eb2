"""Disks that are full or read-only, at the start or later: one line, an exit status other than 0, old files unharmed.

The disks are real: a file system in memory of a few pages, and folders that nobody may change.
"""

import contextlib
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from saved_pictures import save_pair
from started_programs import wait_until

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.cli import main

SMALL = {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2}


@pytest.fixture
def mount(tmp_path):
    """Mount a file system of so many kilobytes as ``disk``."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = []

    def mount(kilobytes):
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
        try:
            failed = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no command to mount a file system with")
        if failed.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {failed.stderr.strip()}")
        mounted.append(disk)
        return disk

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(params=["full", "read-only"])
def bad_disk(request, mount):
    """A disk on which nothing can be written, and one file that was there before."""
    disk = mount(16 if request.param == "full" else 1024)
    (disk / "mine.txt").write_text("mine")
    if request.param == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return disk


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextmanager
def unchangeable(folder):
    """Let nobody, not even root, add a file to a folder."""
    if subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("a folder cannot be made unchangeable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Four pairs in GoPro's layout, also as its training and test split, with the parent as the current folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(4):
        for split in ("train", "test"):
            sharp = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            save_pair(Path("GOPRO_Large", split, f"scene{number % 2}"), f"{number:06d}.png", sharp)
    network = MACR(num_feat=8, num_blocks=1, branch_channels=2)
    torch.save({"params": network.state_dict(), "network_g": SMALL}, "w.pth")
    return Path("GOPRO_Large")


def benchmark_options(name="bench.yml", **blocks):
    Path(name).write_text(
        yaml.safe_dump(
            {
                "dataset": {"dataroot": "GOPRO_Large/test", "io_backend": {"type": "disk"}},
                "cost": {"sizes": [[16, 16]], "warm_up": 0, "runs": 1, "devices": ["cpu"]},
                "entries": [{"label": "MACR", "network": SMALL, "weights": "w.pth"}],
                **blocks,
            }
        )
    )
    return name


def status_of(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code


COMMANDS = {
    "prepare": lambda disk: ("prepare", "gopro", "--root", "GOPRO_Large", "--out", disk / "out", "--workers", 1),
    "synthesize": lambda disk: (
        *("synthesize", "--photos", "GOPRO_Large/test/scene0/sharp", "--out", disk / "out"),
        *("--pairs", 1, "--size", 24, 24, "--extent", 2, 3, "--workers", 1),
    ),
    "benchmark": lambda disk: ("benchmark", "-opt", benchmark_options(), "--out", disk / "out"),
    "deblur": lambda disk: ("deblur", "GOPRO_Large/test", "-o", disk / "out", "--weights", "w.pth", "--device", "cpu"),
    "export": lambda disk: ("export", "--weights", "w.pth", "--format", "torch-export", "-o", disk / "out.pt2"),
}


@pytest.mark.parametrize(
    "command", [name if name != "export" else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_a_command_on_a_bad_disk_says_so_and_leaves_nothing(command, bad_disk, pictures, capsys):
    before = sorted(path.name for path in bad_disk.iterdir())
    assert status_of(*COMMANDS[command](bad_disk)) in (1, 2)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert "Written" not in printed.out
    reasons = r"No space left on device|Read-only file system|Input/output error|has 0\.0 MB free"
    assert re.search(reasons, printed.err + printed.out)
    assert (bad_disk / "mine.txt").read_text() == "mine"
    # Folders take no room on a full disk.
    left = sorted(path.name for path in bad_disk.iterdir())
    assert [name for name in left if name not in before and (bad_disk / name).is_file()] == []


def test_a_benchmark_whose_disk_fills_up_does_not_say_written(mount, pictures, capsys):
    """There is room for the first figures, not for pictures: exit status 2, and the run goes on where there is room."""
    disk = mount(40)
    arguments = ("benchmark", "-opt", benchmark_options(comparison_frames=4), "--out", disk / "out")
    assert status_of(*arguments) == 2
    printed = capsys.readouterr()
    assert "Written" not in printed.out
    assert [line for line in printed.err.splitlines() if line.startswith("macr: error: ") and "No space left" in line]
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    assert status_of(*arguments) == 0
    assert (disk / "out" / "report.html").is_file()


def one_line(status, output):
    """The one line with which a training ended."""
    assert status != 0, output
    assert "Traceback" not in output, output
    (line,) = [line for line in output.splitlines() if ": error: " in line]
    return line


@pytest.mark.slow
def test_a_training_on_a_bad_disk_does_not_start(bad_disk, working_folder, tiny_options, run_training, monkeypatch):
    options = Path(tiny_options()).resolve()
    monkeypatch.chdir(bad_disk)
    opt = yaml.safe_load(options.read_text())
    for dataset in opt["datasets"].values():
        for key in ("dataroot_lq", "dataroot_gt"):
            dataset[key] = str(working_folder / dataset[key])
    options.write_text(yaml.safe_dump(opt))
    line = one_line(*run_training("-opt", str(options)))
    assert re.search(r"No space left on device|Read-only file system", line)
    assert (bad_disk / "mine.txt").read_text() == "mine"


def saving_options(model):
    """Options of a test that saves every picture."""
    data = {"type": "DeblurPairDataset", "dataroot": "GOPRO_Large/test", "io_backend": {"type": "disk"}}
    if model == "SRModel":
        folders = {
            f"dataroot_{key}": f"GOPRO_Large/test/scene0/{kind}" for key, kind in (("lq", "blur"), ("gt", "sharp"))
        }
        data = {"type": "PairedImageDataset", "io_backend": {"type": "disk"}, **folders}
    data = {key: str(Path(value).resolve()) if key.startswith("dataroot") else value for key, value in data.items()}
    opt = {
        "name": "run",
        "model_type": model,
        "scale": 1,
        "num_gpu": 0,
        "datasets": {"test_1": {"name": "frames", **data}},
        "network_g": SMALL,
        "path": {"pretrain_network_g": str(Path("w.pth").resolve())},
        "val": {"save_img": True, "suffix": None, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}},
    }
    Path("test.yml").write_text(yaml.safe_dump(opt))
    return Path("test.yml").resolve()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["MultiScaleDeblurModel", "SRModel"])
def test_a_test_on_a_bad_disk_ends_in_one_line(bad_disk, pictures, starter, model, tmp_path):
    process = starter.start(bad_disk, ["-opt", str(saving_options(model))], tmp_path / "output", "test")
    line = one_line(process.wait(), process.output.read_text())
    assert re.search(r"No space left on device|Read-only file system", line)
    assert (bad_disk / "mine.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["MultiScaleDeblurModel", "SRModel"])
def test_a_test_whose_pictures_fill_the_disk_ends_in_one_line(mount, pictures, starter, model, tmp_path):
    disk = mount(64)
    options = saving_options(model)
    # Two pages are left for the log, which takes its first at once.
    (disk / "filler").write_bytes(bytes(14 * 4096))
    process = starter.start(disk, ["-opt", str(options)], tmp_path / "output", "test")
    line = one_line(process.wait(), process.output.read_text())
    assert ".png" in line or "No space left on device" in line, line
    assert list(disk.glob("results/run/*.log"))


@pytest.fixture
def training(starter):
    """A training process that has made a file."""

    def start(options, until):
        process = starter.start(Path.cwd(), ["-opt", options], Path("output.txt").resolve())
        assert wait_until(until.exists, [process]), process.output.read_text()
        return process

    return start


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["models", "training_states"])
def test_a_folder_that_becomes_read_only_ends_a_training(working_folder, tiny_options, training, folder):
    options = tiny_options(train__total_iter=100000, train__scheduler__periods=[100000], val__val_freq=100000)
    run = Path("experiments/tiny")
    process = training(options, run / "training_states" / "3.state")
    with unchangeable(run / folder):
        line = one_line(process.wait(), process.output.read_text())
    assert f"experiments/tiny/{folder}" in line
    assert "Operation not permitted" in line
    state = torch.load(run / "training_states" / "3.state", weights_only=True)
    assert state["iter"] == 3, "what was saved before is still there"


@pytest.mark.slow
def test_a_disk_that_fills_up_with_logs_and_curves_ends_a_training(mount, working_folder, tiny_options, training):
    """No checkpoint is due: the log and TensorBoard's writer alone meet the full disk."""
    options = tiny_options(
        train__total_iter=100000,
        train__scheduler__periods=[100000],
        val__val_freq=100000,
        logger__save_checkpoint_freq=100000,
        logger__use_tb_logger=True,
    )
    disk = mount(512)
    for folder in ("experiments", "tb_logger"):
        (disk / folder).mkdir()
        Path(folder).symlink_to(disk / folder)
    process = training(options, disk / "tb_logger" / "tiny")
    fill(disk)
    line = one_line(process.wait(), process.output.read_text())
    assert "No space left on device" in line
