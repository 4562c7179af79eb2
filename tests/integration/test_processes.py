"""Several processes, killed processes, other ways to start, installing and uninstalling."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import basicsr
import cv2
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def start_and_kill(arguments, until, timeout=300):
    """Start a training, wait until a file is there, and kill it without warning."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + timeout
        while not until.exists():
            assert process.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def iterations(output):
    """Iterations that were logged."""
    return [int(number.replace(",", "")) for number in re.findall(r"iter:\s*([\d,]+), lr", output)]


def test_a_killed_run_goes_on(working_folder, tiny_options, run_python):
    options = tiny_options(train__total_iter=40, val__val_freq=20, logger__save_checkpoint_freq=5)
    command = ["-m", "macr_plugin.train", "-opt", options, "--auto_resume"]
    start_and_kill(command, until=Path("experiments/tiny/training_states/10.state"))
    states = Path("experiments/tiny/training_states")
    last = max(int(path.stem) for path in states.glob("*.state"))
    status, output = run_python(*command)
    assert status == 0, output
    assert f"Resuming training from epoch: 0, iter: {last}." in output
    assert iterations(output)[0] == last + 1
    assert iterations(output)[-1] == 40
    assert not [path for path in Path("experiments").iterdir() if "archived" in path.name]
    assert not list(Path("experiments").rglob("*.unfinished"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="BasicSR's own script resumes on a GPU")
def test_stock_command_names_the_launcher_that_resumes_on_a_cpu(working_folder, tiny_options, run_python):
    options = tiny_options(train__total_iter=3)
    assert run_python("-m", "basicsr.train", "-opt", options)[0] == 0
    before = sorted(Path("experiments").rglob("*"))
    status, output = run_python("-m", "basicsr.train", "-opt", options, "--auto_resume")
    assert status != 0
    assert f"on a CPU run: python -m macr_plugin.train -opt {options} --auto_resume" in output
    assert sorted(Path("experiments").rglob("*")) == before


def test_stock_command_ends_on_bad_data_in_one_line_and_leaves_nothing(working_folder, tiny_options, run_python):
    options = tiny_options(datasets__train__gt_size=999)
    status, output = run_python("-W", "ignore", "-m", "basicsr.train", "-opt", options)
    assert status == 2, output
    assert output.splitlines()[-1].startswith("basicsr.train: error: ")
    assert "lower datasets.train.gt_size" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert {path.name for path in working_folder.iterdir()} == {"datasets", options}


def test_stock_command_saves_its_step_when_told_to_end(working_folder, tiny_options):
    """The state is that of the last step."""
    options = tiny_options(train__total_iter=1000, val__val_freq=1000, logger__save_checkpoint_freq=1000)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with Path("output.txt").open("w+") as output:
        command = [sys.executable, "-m", "basicsr.train", "-opt", options]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + 300
        while not iterations(Path("output.txt").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    said = Path("output.txt").read_text()
    last = iterations(said)[-1]
    assert said.splitlines()[-1] == f"basicsr.train: SIGTERM: saved step {last}, --auto_resume goes on from it"
    assert [path.name for path in Path("experiments/tiny/training_states").iterdir()] == [f"{last}.state"]
    assert "Traceback" not in said


@pytest.mark.parametrize("module", ["basicsr.train", "macr_plugin.train"])
def test_torchrun(working_folder, tiny_options, run_python, module):
    """Two gloo processes train in spawned workers and validate; then they resume."""
    options = tiny_options(train__total_iter=6)
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29511", "-m", module]
    command = [*torchrun, "-opt", options, "--launcher", "pytorch"]
    status, output = run_python(*command, timeout=600)
    assert status == 0, output
    assert "Effective batch: 2 per process x 2 process(es) = 4" in output
    assert "# psnr:" in output
    assert Path("experiments/tiny/training_states/6.state").is_file()
    if module == "macr_plugin.train":
        tiny_options(train__total_iter=9)
        status, output = run_python(*command, "--auto_resume", timeout=600)
        assert status == 0, output
        assert "iter: 6." in output
        assert iterations(output) == [7, 8, 9]


def test_script_for_several_processes(working_folder, tiny_options, run_python):
    script = str(REPOSITORY / "scripts" / "train_distributed.sh")
    usage = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert usage.stderr.startswith("Train with several processes")
    options = tiny_options(train__total_iter=3)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "MASTER_PORT": "29517"}
    command = ["bash", script, "2", options, "--auto_resume"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Effective batch: 2 per process x 2 process(es) = 4" in result.stdout + result.stderr
    assert Path("experiments/tiny/models/net_g_3.pth").is_file()


@pytest.mark.parametrize("num_frames", [3, 5])
def test_two_processes_validate_as_one(working_folder, tiny_options, run_training, num_frames):
    """With a learning rate of 0, so that both runs have the same weights."""
    changes = {
        "datasets__val__num_frames": num_frames,
        "datasets__val__num_worker_per_gpu": 1,
        **{"train__total_iter": 3, "train__ema_decay": 0, "train__optim_g__lr": 0.0, "val__comparison_frames": 3},
    }
    options = tiny_options(**changes)
    command = ["-opt", options, "--auto_resume"]
    one, two = Path("experiments/one"), Path("experiments/tiny")
    for ranks in (1, 2):
        status, output = run_training(*command, ranks=ranks)
        assert status == 0, output
        assert f"Validation demo-test, {num_frames} frames" in output
        if ranks == 1:
            two.rename(one)
    bests = [torch.load(run / "models" / "net_g_best.pth", weights_only=True)["best"] for run in (one, two)]
    assert bests[0]["val"] == pytest.approx(bests[1]["val"], abs=1e-6)
    pictures = sorted(path.relative_to(one) for path in one.rglob("*_3.png"))
    assert len(pictures) == num_frames + 1
    assert sorted(path.relative_to(two) for path in two.rglob("*_3.png")) == pictures
    for picture in pictures:
        assert np.array_equal(*(cv2.imread(str(run / picture)) for run in (one, two)))

    tiny_options(**{**changes, "train__total_iter": 6})
    before = (two / "models" / "net_g_best.pth").read_bytes()
    status, output = run_training(*command, ranks=2)
    assert status == 0, output
    assert iterations(output)[0] == 4
    assert (two / "models" / "net_g_best.pth").read_bytes() == before, "no better than before the resume"


def test_script_of_a_checkout(working_folder, tiny_options, run_python):
    """``python basicsr/train.py`` in a clone of BasicSR, whose output stays in the clone."""
    checkout = working_folder / "BasicSR"
    shutil.copytree(Path(basicsr.__file__).parent, checkout / "basicsr", ignore=shutil.ignore_patterns("__pycache__"))
    options = tiny_options(train__total_iter=3)
    (checkout / "datasets").symlink_to(working_folder / "datasets")
    os.chdir(checkout)
    status, output = run_python("basicsr/train.py", "-opt", str(working_folder / options), PYTHONPATH=str(checkout))
    assert status == 0, output
    assert (checkout / "experiments/tiny/models/net_g_latest.pth").is_file()


def test_other_prefetchers_fall_back_and_train(working_folder, tiny_options, run_python):
    options = tiny_options(
        train__total_iter=3, datasets__train__prefetch_mode="cpu", datasets__train__num_worker_per_gpu=0
    )
    options_text = Path(options).read_text().replace("persistent_workers: true", "persistent_workers: false")
    Path(options).write_text(options_text)
    status, output = run_python("-m", "basicsr.train", "-opt", options)
    assert status == 0, output
    assert "prefetch_mode: cpu is ignored: it needs num_worker_per_gpu of at least 1" in output


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_install_and_uninstall(tmp_path, kind):
    """Both wheels carry the .pth file, the wheel the report's page too, and uninstalling leaves nothing behind."""
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "dist"))
    build = f"from setuptools import build_meta; build_meta.build_{kind}({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    python = target / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(target)}))
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    before = set(target.rglob("*"))
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    assert (packages / "macr_plugin.pth").is_file()
    if kind == "wheel":
        page = {"report.html", "report.css", "report.js"}
        assert page <= {path.name for path in (packages / "macr_plugin" / "benchmark" / "report").iterdir()}
    probe = "import sys; print('macr_plugin.autoload' in sys.modules)"
    assert subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True).stdout == "True\n"
    subprocess.run([*pip, "uninstall", "--yes", "macr-plugin"], check=True, capture_output=True)
    assert {path for path in set(target.rglob("*")) - before if "__pycache__" not in path.parts} == set()
