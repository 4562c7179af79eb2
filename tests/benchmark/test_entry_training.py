import fcntl
import sys
import time
from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import pytest

from macr_plugin.benchmark import training
from macr_plugin.benchmark.options import Entry, TrainingBase
from macr_plugin.benchmark.training import (
    TrainingPlan,
    check_training,
    merge_options,
    parse_seconds,
    train_entry,
    training_options,
)
from macr_plugin.errors import InputError

MACR = Entry("small MACR", {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2})
LINE = "2026-01-02 03:04:{seconds} INFO: [run..][epoch:  0, iter:{step:8,d}, lr:(1.000e-04,)] l_pix: 1.0e-01\n"


def plan(iterations=4, budget=None, seeds=(0,), **train):
    base = TrainingBase(
        {
            "train": {
                "dataroot": "pairs",
                "io_backend": {"type": "disk"},
                "gt_size": 32,
                "batch_size_per_gpu": 2,
                "num_worker_per_gpu": 0,
                "dataset_enlarge_ratio": 20,
            }
        },
        {
            "optim_g": {"type": "Adam", "lr": 1e-4, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": []},
            "pixel_opt": {"type": "L1Loss"},
            **train,
        },
    )
    return TrainingPlan(base, iterations, budget, seeds, "cpu")


def test_an_entry_changes_the_shared_options():
    base = {"a": 1, "block": {"type": "X", "x": 1, "y": 2}, "other": {"z": 3}}
    assert merge_options(base, {"a": 2, "block": {"y": 5}}) == {
        "a": 2,
        "block": {"type": "X", "x": 1, "y": 5},
        "other": {"z": 3},
    }
    assert merge_options(base, {"block": {"type": "Y", "w": 1}})["block"] == {"type": "Y", "w": 1}, (
        "another kind replaces it"
    )
    assert base["block"] == {"type": "X", "x": 1, "y": 2}


def test_the_options_of_a_run(working_folder):
    entry = Entry("x", MACR.network, train={"optim_g": {"lr": 5e-4}, "ema_decay": 0.9})
    cosine = {"type": "CosineAnnealingRestartLR", "periods": None, "restart_weights": [1]}
    options = training_options(entry, plan(scheduler=cosine), seed=3, iterations=200)
    assert options["manual_seed"] == 3
    assert options["network_g"] == MACR.network
    assert options["num_gpu"] == 0
    assert options["datasets"]["train"]["dataroot"] == str(working_folder / "pairs")
    assert options["train"]["optim_g"] == {"type": "Adam", "lr": 5e-4, "betas": [0.9, 0.99]}
    assert options["train"]["scheduler"]["periods"] == [200]
    assert options["train"]["total_iter"] == 200
    assert options["logger"]["save_checkpoint_freq"] == 20


def test_an_entry_brings_its_own_model_class_and_data(working_folder):
    loading = {"batch_size_per_gpu": 7, "num_worker_per_gpu": 0}
    photos = {"type": "LinearMotionPatchDataset", "dataroot_gt": "pairs", **loading}
    network = {"type": "SunMotionNet", "channels": [4, 4, 8]}
    entry = Entry(
        "Sun",
        network,
        model_type="MotionClassifierModel",
        datasets={"train": photos},
        train={"pixel_opt": {"type": "MotionCrossEntropyLoss"}},
    )
    check_training(entry, plan())
    options = training_options(entry, plan(), seed=0, iterations=5)
    assert options["model_type"] == "MotionClassifierModel"
    assert options["datasets"]["train"] == {"name": "train", **photos, "dataroot_gt": str(working_folder / "pairs")}
    assert options["train"]["pixel_opt"] == {"type": "MotionCrossEntropyLoss"}
    assert options["train"]["optim_g"]["type"] == "Adam"
    shared = training_options(MACR, plan(), seed=0, iterations=5)
    assert shared["model_type"] == "MultiScaleDeblurModel"
    assert shared["datasets"]["train"]["type"] == "DeblurPairDataset"


def test_a_mistyped_model_class_of_an_entry_is_named():
    with pytest.raises(
        InputError, match="training of x: model_type: unknown model 'MotionClassifierMdel': did you mean"
    ):
        check_training(Entry("x", MACR.network, model_type="MotionClassifierMdel"), plan())


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"ema_deacy": 0.9},
            "training of small MACR: train.ema_deacy: unknown key 'ema_deacy': did you mean ema_decay",
        ),
        ({"pixel_opt": {"type": "L1Los"}}, "training of small MACR: train.pixel_opt.type: unknown loss"),
        ({"optim_g": {"type": "Adam", "lr": "1e-4"}}, "YAML reads 1e-4 as text"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(train, message):
    check_training(MACR, plan())
    with pytest.raises(InputError, match=message):
        check_training(MACR, plan(**train))


@pytest.mark.parametrize(("text", "seconds"), [("600s", 600), ("10m", 600), ("1.5h", 5400), ("20", 20)])
def test_time_budgets(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3s", "0s", "5 days"])
def test_what_is_no_time_budget(text):
    with pytest.raises(InputError, match=r"is no time: write seconds, minutes or hours"):
        parse_seconds(text)


def write_log(run, name, *lines):
    run.experiment.mkdir(parents=True, exist_ok=True)
    text = "".join(LINE.format(seconds=seconds, step=step) for seconds, step in lines)
    header = "2026-01-02 03:00:00,000 INFO: Resuming training from epoch: 0, iter: 500.\n"
    (run.experiment / f"train_{name}.log").write_text(header + text)


def test_seconds_of_training_leave_out_starts_and_interruptions(tmp_path):
    run = training._Run(tmp_path, "x", training_options(MACR, plan(), 0, 4), plan())
    assert run.seconds() == 0
    write_log(run, "1", ("01,500", 1000), ("03,000", 2000))
    write_log(run, "2", ("30,000", 2000), ("40,250", 3000))
    assert run.seconds() == pytest.approx(1.5 + 10.25)
    assert [step for _, step in run.logged()] == [1000, 2000, 2000, 3000]


def test_other_options_are_another_run(tmp_path, working_folder):
    file = working_folder / "my_net.py"
    file.write_text("A = 1")
    first = training._Run(tmp_path, "x", {"a": 1}, plan())
    assert training._Run(tmp_path, "x", {"a": 1}, plan()).name == first.name
    assert training._Run(tmp_path, "x", {"a": 2}, plan()).name != first.name
    with_file = TrainingPlan(plan().base, 4, None, (0,), "cpu", (file,))
    assert training._Run(tmp_path, "x", {"a": 1}, with_file).name != first.name


@pytest.fixture
def fake_training(monkeypatch, tmp_path):
    """Stands in for ``python -m macr_plugin.train``: takes the same arguments, logs steps, leaves weights."""
    script = tmp_path / "fake_train.py"
    script.write_text(
        """
import datetime, pathlib, sys, time, yaml
option_file = pathlib.Path(sys.argv[sys.argv.index("-opt") + 1])
opt = yaml.safe_load(option_file.read_text())
if opt["network_g"].get("num_feat") == 666:
    sys.exit("error: this one fails")
folder = pathlib.Path("experiments", opt["name"])
(folder / "models").mkdir(parents=True, exist_ok=True)
(folder / "training_states").mkdir(exist_ok=True)
with (folder / "train_1.log").open("a") as log:
    for step in range(1, min(opt["train"]["total_iter"], 1000) + 1):
        time.sleep(0.01)
        if step % opt["logger"]["print_freq"] == 0:
            now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
            print(f"{now} INFO: [x..][epoch:  0, iter:{step:8,d}, lr:(1e-4,)]", file=log, flush=True)
(folder / "models" / "net_g_2.pth").touch()
(folder / "models" / "net_g_latest.pth").write_text(str(opt["train"]["total_iter"]))
"""
    )
    real = training.subprocess.Popen

    def start(command, **settings):
        assert command[:3] == [sys.executable, "-m", "macr_plugin.train"]
        started.append(command)
        return real([sys.executable, str(script), *command[3:]], **settings)

    started = []
    monkeypatch.setattr(training.subprocess, "Popen", start)
    monkeypatch.setattr(training, "POLL_SECONDS", 0.02)
    return started


def test_every_seed_is_trained_once(fake_training, tmp_path):
    cells = list(train_entry(MACR, plan(seeds=(0, 7)), tmp_path / "training"))
    assert [Path(command[command.index("-opt") + 1]).stem.rpartition("_")[0] for command in fake_training] == [
        "small_MACR_seed0",
        "small_MACR_seed7",
    ]
    for cell in cells:
        assert cell.iterations == 4
        assert cell.seconds > 0
        assert [path.name for path in cell.weights.parent.iterdir()] == ["net_g_latest.pth"]
        assert not (cell.weights.parents[1] / "training_states").exists()
    assert list(train_entry(MACR, plan(seeds=(0, 7)), tmp_path / "training")) == cells
    assert len(fake_training) == 2
    list(train_entry(MACR, plan(5), tmp_path / "training"))
    assert len(fake_training) == 3


def test_a_time_budget_becomes_steps_of_a_whole_schedule(fake_training, tmp_path):
    """A step takes 10 ms and a little; a tenth of the second is spent on finding out."""
    (cell,) = train_entry(MACR, plan(None, budget=2.0), tmp_path / "training")
    assert 40 < cell.iterations < 200
    assert cell.weights.read_text() == str(cell.iterations)
    assert cell.seconds == pytest.approx(2, rel=0.5)
    assert list(train_entry(MACR, plan(None, budget=2.0), tmp_path / "training")) == [cell]
    assert len(fake_training) == 2


@pytest.mark.parametrize("length", [{}, {"iterations": None, "budget": 1.0}])
def test_a_failing_training_names_its_last_words_and_its_log(fake_training, tmp_path, length):
    entry = Entry("x", {**MACR.network, "num_feat": 666})
    with pytest.raises(InputError, match=r"training of x.* failed: error: this one fails: see .*\.txt"):
        list(train_entry(entry, plan(**length), tmp_path / "training"))


def test_an_interrupted_benchmark_ends_its_training(fake_training, tmp_path):
    run = training._Run(tmp_path / "training", "x", training_options(MACR, plan(), 0, 1000), plan())
    with pytest.raises(KeyboardInterrupt), run.started() as process:
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_a_run_that_another_process_trains_is_left_to_it(fake_training, tmp_path):
    folder = tmp_path / "training"
    run = training._Run(folder, "small_MACR_seed0", training_options(MACR, plan(), 0, 4), plan())
    folder.mkdir()
    with (folder / f"{run.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"another process is training .*small_MACR_seed0"):
            list(train_entry(MACR, plan(), folder))


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint(working_folder):
    folder = working_folder / "training"
    run = training._Run(folder, "small_MACR_seed0", training_options(MACR, plan(40), 0, 40), plan(40))
    with run.started() as process:
        deadline = time.monotonic() + 200
        while not list(run.experiment.rglob("*.state")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert not (run.experiment / "models" / "net_g_latest.pth").exists()
    (cell,) = train_entry(MACR, plan(40), folder)
    assert cell.iterations == 40
    logs = sorted(run.experiment.glob("train_*.log"))
    assert len(logs) == 2
    assert "Resuming training from epoch" in logs[1].read_text()
    assert [path.name for path in cell.weights.parent.iterdir()] == ["net_g_latest.pth"]
