"""Trainings that are told to end: saved after the step, one line, 128 and the number of the signal."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from started_programs import REPOSITORY, free_port, wait_until
from trainings import OPTIONS, SAVE_INTERVAL, differences, logged_steps

pytestmark = pytest.mark.slow

LONG = {"train__total_iter": 100_000}
SLOW_METRIC = """
import time
from pathlib import Path
from basicsr.utils.registry import METRIC_REGISTRY

@METRIC_REGISTRY.register()
def calculate_slow(img, img2):
    Path("validating").touch()
    time.sleep(0.3)
    return 0.0
"""
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_saves_the_step_and_ends_in_one_line(train, number):
    training = train(**LONG)
    (process,) = training.start_until(7)
    process.send(number)
    assert process.wait() == 128 + number
    output = process.output.read_text()
    last = training.states()[-1]
    assert last == logged_steps(output)[-1]
    assert output.splitlines()[-1] == (
        f"macr_plugin.train: {signal.Signals(number).name}: saved step {last}, --auto_resume goes on from it"
    )
    assert "Traceback" not in output


def test_a_training_that_was_told_to_end_goes_on_as_if_it_had_not(train):
    """Told by a terminal, which tells the data loading workers too."""
    workers = {"datasets__train__num_worker_per_gpu": 2, "train__total_iter": 40}
    undisturbed = train("undisturbed", **workers)
    undisturbed.run()
    training = train(**workers)
    for step, number in ((3, signal.SIGINT), (17, signal.SIGTERM), (20, signal.SIGHUP)):
        (process,) = training.start_until(step)
        os.killpg(process.number, number)
        assert process.wait() == 128 + number
        assert "Traceback" not in process.output.read_text()
    training.run()
    assert differences(undisturbed.result(), training.result()) == []


def test_all_processes_end_after_one_step_whichever_was_told(train):
    undisturbed = train("undisturbed", ranks=2, train__total_iter=30)
    undisturbed.run()
    training = train(ranks=2, train__total_iter=30)
    for rank, step in ((1, 7), (0, 13)):
        processes = training.start_until(step)
        processes[rank].send(signal.SIGTERM)
        assert [process.wait() for process in processes] == [143, 143]
        output = processes[0].output.read_text()
        assert output.splitlines()[-1].endswith(f"saved step {training.states()[-1]}, --auto_resume goes on from it")
        assert "Traceback" not in output + processes[1].output.read_text()
    training.run()
    assert differences(undisturbed.result(), training.result()) == []


def test_a_signal_in_a_validation_waits_for_its_end(train):
    """What it found to be best is kept, as if nothing had been said."""
    metrics = {**OPTIONS["val"]["metrics"], "slow": {"type": "calculate_slow"}}
    training = train(**LONG, val__metrics=metrics)
    (training.folder / "slow_metric.py").write_text(SLOW_METRIC)
    (process,) = training.start("--auto_resume", "--import", "slow_metric.py")
    assert wait_until((training.folder / "validating").exists, [process])
    process.send(signal.SIGTERM)
    assert process.wait() == 143
    output = process.output.read_text()
    assert "# slow: 0.0000" in output
    step = OPTIONS["val"]["val_freq"]
    assert output.splitlines()[-1] == f"macr_plugin.train: SIGTERM: saved step {step}, --auto_resume goes on from it"
    assert training.states()[-1] == step
    best = torch.load(training.experiment / "models" / "net_g_best.pth", weights_only=True)["best"]
    assert best["iter"] == step


def test_a_second_signal_ends_at_once(train):
    # A step that takes long, so that the second signal comes before its end.
    training = train(**LONG, datasets__train__batch_size_per_gpu=6, datasets__train__gt_size=24, network_g__num_feat=96)
    (process,) = training.start_until(SAVE_INTERVAL + 1)
    before = training.states()
    process.send(signal.SIGTERM)
    process.send(signal.SIGINT)
    assert process.wait(timeout=20) in (130, 143)
    assert training.states() == before
    assert "saved step" not in process.output.read_text()


def test_before_the_first_step_it_ends_at_once_and_leaves_nothing(train):
    training = train(**LONG)
    (process,) = training.start()
    wait_until(lambda: training.experiment.exists(), [process])
    time.sleep(0.05)
    process.send(signal.SIGTERM)
    assert process.wait() == 143
    assert "Traceback" not in process.output.read_text()
    if not logged_steps(process.output.read_text()):
        assert not training.experiment.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_torchrun_passes_a_signal_on_and_one_state_is_saved(train, number):
    """The real launcher; it prints a traceback of its own and ends with a status of its own.

    It has to be asked for SIGUSR1, as ``scripts/train_distributed.sh`` does.
    """
    training = train(train__total_iter=100_000)
    command = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += ["-m", "macr_plugin.train", "-opt", "tiny.yml", "--launcher", "pytorch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    environment["PET_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    with (training.folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=training.folder, env=environment, stdout=output, stderr=output
        )
        deadline = time.monotonic() + 120
        while not training.states() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) != 0
    said = (training.folder / "output.txt").read_text()
    name = signal.Signals(number).name
    saved = re.findall(rf"macr_plugin.train: {name}: saved step (\d+), --auto_resume goes on from it", said)
    assert saved == [str(training.states()[-1])], said
    assert logged_steps(said)[-1] == training.states()[-1]
    training.write_options(train__total_iter=training.states()[-1] + 3)
    assert logged_steps(training.run(ranks=2))[0] == int(saved[0]) + 1
