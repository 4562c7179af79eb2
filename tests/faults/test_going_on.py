"""What a resume goes on with: stock models, other numbers of processes, curves, and a disk that takes no more."""

import re
import resource
import signal

import pytest
import torch
from started_programs import wait_until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import SAVE_INTERVAL, differences, logged_steps, write_pairs

pytestmark = pytest.mark.slow

STOCK = {
    "model_type": "SRModel",
    "datasets__train": {
        "name": "train",
        "type": "PairedImageDataset",
        "dataroot_lq": "data/train/scene/blur",
        "dataroot_gt": "data/train/scene/sharp",
        "io_backend": {"type": "disk"},
        "gt_size": 16,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": 2,
        "batch_size_per_gpu": 2,
        "dataset_enlarge_ratio": 3,
    },
    "train": {
        "ema_decay": 0.9,
        "optim_g": {"type": "Adam", "lr": 1e-2},
        "scheduler": {"type": "MultiStepLR", "milestones": [10], "gamma": 0.5},
        "total_iter": 24,
        "pixel_opt": {"type": "L1Loss"},
    },
    "val": {"val_freq": 8, "save_img": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}},
}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stock_model_goes_on_bit_for_bit(train, workers):
    """BasicSR's model and data set, whose workers draw from the process's generators."""
    options = {**STOCK, "datasets__train": {**STOCK["datasets__train"], "num_worker_per_gpu": workers}}
    for name, interval in (("undisturbed", 24), ("stopped", 6)):
        training = train(name, **options, logger__save_checkpoint_freq=interval)
        training.run()
    expected = torch.load(training.experiment.parents[2] / "undisturbed/experiments/tiny/models/net_g_latest.pth")
    for step in (18, 12):
        (training.experiment / "training_states" / f"{step + 6}.state").unlink()
    training.run()
    found = torch.load(training.experiment / "models" / "net_g_latest.pth")
    assert differences(expected, found) == []
    state = torch.load(training.experiment / "training_states" / "24.state", weights_only=True)
    assert state["best"]["val"]["psnr"]["iter"] > 0


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_stock_data_set_names_the_picture_that_it_cannot_read(train, workers, damage):
    changes = {"num_worker_per_gpu": workers, "meta_info_file": "pictures.txt"}
    options = {**STOCK, "datasets__train": {**STOCK["datasets__train"], **changes}}
    training = train(**options, datasets__val__dataroot="data/val")
    write_pairs(training.folder / "data" / "val")
    (training.folder / "pictures.txt").write_text("".join(f"{number:06d}.png (24,32,3)\n" for number in range(6)))
    picture = training.folder / "data" / "train" / "scene" / "blur" / "000003.png"
    if damage == "cut":
        picture.write_bytes(b"no picture")
    else:
        picture.unlink()
    (process,) = training.start()
    assert process.wait() == 2
    output = process.output.read_text()
    assert "Traceback" not in output, output
    (line,) = [line for line in output.splitlines() if "error:" in line]
    assert "macr_plugin.train: error: datasets.train train: " in line
    assert "data/train/scene/blur/000003.png" in line


def test_a_stock_model_that_diverges_saves_nothing_and_does_not_end_well(train):
    options = {**STOCK["train"], "optim_g": {"type": "Adam", "lr": 1e36}, "total_iter": 30}
    training = train(
        **{**STOCK, "train": options, "val": {"val_freq": 1000, "save_img": False}}, logger__save_checkpoint_freq=1
    )
    (process,) = training.start()
    assert process.wait() == 2
    output = process.output.read_text()
    assert re.search(r"error: .*net_g_\d+.pth: the weight .* is not finite, so the last good files stay", output)
    assert "Traceback" not in output
    for path in training.experiment.glob("models/*.pth"):
        for weights in torch.load(path).values():
            assert all(value.isfinite().all() for value in weights.values())


def test_other_numbers_of_processes_keep_order_and_curve(train):
    """2 processes of batch 2, then 1 of batch 4, then 2 again, beside 2 from start to end."""

    def losses(output):
        lines = re.findall(r"iter:\s*(\d+), lr.* l_pix: (\S+) l_pix_scale0", output)
        return {int(step): float(loss) for step, loss in lines}

    undisturbed = train("undisturbed", ranks=2, train__total_iter=30)
    expected = losses(undisturbed.run())
    training = train(train__total_iter=30)
    found = {}
    for ranks, last in ((2, 10), (1, 20), (2, 30)):
        training.write_options(train__total_iter=last, datasets__train__batch_size_per_gpu=4 // ranks)
        found.update(losses(training.run(ranks=ranks)))
    assert list(found) == list(expected) == list(range(1, 31))
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=2e-3)


def test_curves_have_each_step_once(train):
    training = train(train__total_iter=100_000)
    for step in (8, 13):
        (process,) = training.start_until(step)
        process.send(signal.SIGKILL)
        process.wait()
    training.write_options(train__total_iter=30)
    training.run()
    (folder,) = (training.folder / "tb_logger").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("losses/l_pix")] == list(range(1, 31))
    assert [event.step for event in events.Scalars("metrics/val/psnr")] == [10, 20, 30]


def test_a_disk_that_takes_no_more_ends_the_training_in_one_line(train):
    training = train(train__total_iter=100_000)
    (process,) = training.start()
    assert wait_until(lambda: training.states(), [process])
    # No file may grow beyond this: the logs are shorter by far.
    size = (training.experiment / "training_states" / f"{SAVE_INTERVAL}.state").stat().st_size
    resource.prlimit(process.number, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    assert process.wait() == 2
    output = process.output.read_text()
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if "error:" in line]) == 1
    assert re.search(
        r"error: .*pth could not be written .*: free some disk space and resume with --auto_resume", output
    )
    assert not training.unfinished()
    last = training.states()[-1]
    assert max(logged_steps(output)) <= last + 2 * SAVE_INTERVAL
    training.write_options(train__total_iter=last + 1)
    training.run()


@pytest.mark.parametrize("persistent", [False, True])
def test_an_error_ends_the_workers_too(train, persistent):
    """The learning rate is more than torch can multiply by; a worker obeys its parent's SIGTERM alone."""
    workers = {"datasets__train__num_worker_per_gpu": 2, "datasets__train__persistent_workers": persistent}
    training = train(**workers, train__optim_g={"type": "Adam", "lr": 1e300})
    (process,) = training.start()
    assert process.wait(timeout=60) == 1
    assert "value cannot be converted to type float without overflow" in process.output.read_text()
