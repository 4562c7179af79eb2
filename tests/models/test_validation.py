"""Sharing out frames, reading and writing in the background, and keeping the best weights."""

import errno
import logging
import math
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY
from torch.utils.data import DataLoader

from macr_plugin.errors import InputError
from macr_plugin.filesystem import atomic
from macr_plugin.models import validation
from macr_plugin.models.validation import (
    FrameVersions,
    Measurement,
    PictureWriter,
    Validator,
    compared_indices,
    frame_key,
    measure,
    share,
    share_buffers,
    to_picture,
)

PSNR = {"psnr": {"type": "calculate_psnr", "crop_border": 0}}


class Frames(torch.utils.data.Dataset):
    """Five frames as a data set gives them, two of them without a sharp partner if asked to."""

    def __init__(self, unmeasurable=(), **opt):
        self.opt = {"name": "val", **opt}
        self.unmeasurable = unmeasurable

    def __len__(self):
        return 5

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        blurred, sharp = torch.randint(256, (2, 3, 20 + index, 24), generator=generator, dtype=torch.uint8)
        frame = {"lq": blurred, "gt": sharp, "lq_path": f"scene/{index:06d}"}
        if index in self.unmeasurable:
            del frame["gt"]
        return frame


def restore(data):
    """A network that darkens."""
    return data["lq"], data["lq"] // 2, data.get("gt")


@pytest.fixture
def make_validator(tmp_path):
    def make(rank=0, world_size=1, is_train=True, **val):
        opt = {"rank": rank, "world_size": world_size, "dist": False, "is_train": is_train, "name": "run"}
        opt.update(path={"visualization": str(tmp_path)}, val={"metrics": PSNR, **val})
        return Validator(opt, restore, torch.device("cpu"))

    return make


def expected_psnr(index, blurred=False):
    frame = Frames()[index]
    pictures = [to_picture(picture[None]) for picture in (frame["lq"] if blurred else frame["lq"] // 2, frame["gt"])]
    return calculate_psnr(*pictures, 0)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num_frames", [0, 1, 5, 16])
def test_every_frame_belongs_to_one_process(num_frames, world_size):
    shares = [share(num_frames, rank, world_size) for rank in range(world_size)]
    assert sorted(index for part in shares for index in part) == list(range(num_frames))
    sizes = [len(part) for part in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shares_together_measure_what_one_process_measures(make_validator, world_size):
    loader = DataLoader(Frames())
    parts = [make_validator(rank, world_size).run(loader, 1, save_pictures=False) for rank in range(world_size)]
    values = [frame.restored["psnr"] for part in parts for frame in part]
    assert sorted(values) == pytest.approx(sorted(expected_psnr(index) for index in range(5)), abs=1e-9)


def test_frames_come_in_the_order_of_the_data_set(make_validator):
    measured = make_validator().run(DataLoader(Frames()), 1, save_pictures=False)
    assert [frame.restored["psnr"] for frame in measured] == pytest.approx([expected_psnr(i) for i in range(5)])
    assert [frame.blurred["psnr"] for frame in measured] == pytest.approx([expected_psnr(i, True) for i in range(5)])


def test_frames_without_a_sharp_partner_are_saved_and_not_measured(make_validator, tmp_path):
    validator = make_validator(is_train=False, comparison_frames=5)
    measured = validator.run(DataLoader(Frames(unmeasurable=(1, 4))), "run", save_pictures=True)
    assert [frame.restored["psnr"] for frame in measured] == pytest.approx([expected_psnr(i) for i in (0, 2, 3)])
    assert len(list((tmp_path / "val" / "scene").glob("*_run.png"))) == 5
    shown = cv2.imread(str(tmp_path / "val_comparison_run.png"))
    blurred = [to_picture(Frames()[index]["lq"][None]) for index in range(5)]
    differences = [cv2.matchTemplate(shown, picture, cv2.TM_SQDIFF_NORMED).min() for picture in blurred]
    assert [index for index, difference in enumerate(differences) if difference < 1e-3] == [0, 2, 3]


def test_no_metrics_and_no_frames(make_validator):
    assert make_validator(metrics=None).run(DataLoader(Frames()), 1, False) == [Measurement({}, {})] * 5
    assert make_validator().run(DataLoader(Frames(unmeasurable=range(5))), 1, False) == []


@pytest.mark.parametrize("is_train", [True, False])
def test_workers_read_the_same_and_stay_between_the_validations_of_a_training(make_validator, is_train):
    loader = DataLoader(Frames(num_worker_per_gpu=2))
    validator = make_validator(is_train=is_train)
    measured = validator.run(loader, 1, save_pictures=False)
    assert measured == make_validator().run(DataLoader(Frames()), 1, save_pictures=False)
    assert validator.run(loader, 2, save_pictures=False) == measured
    (own_loader,) = validator._loaders.values()
    assert own_loader.num_workers == 2
    assert own_loader.persistent_workers is is_train


def test_random_numbers_and_cudnn_are_left_alone(make_validator, monkeypatch):
    seen = []

    def look(data):
        seen.append(torch.backends.cudnn.benchmark)
        return restore(data)

    validator = make_validator()
    validator._restore = look
    before = torch.get_rng_state()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    validator.run(DataLoader(Frames()), 1, save_pictures=False)
    assert seen == [True, False, False, False, False], "the sizes change after the first frame"
    assert torch.backends.cudnn.benchmark
    assert torch.equal(torch.get_rng_state(), before)


def test_other_registered_metrics_see_bgr_pictures(make_validator):
    def mean_blue(img, img2, better):
        assert img.dtype == img2.dtype == np.uint8
        return float(img[..., 0].mean())

    METRIC_REGISTRY._obj_map["mean_blue"] = mean_blue
    try:
        metrics = {**PSNR, "blue": {"type": "mean_blue", "better": "lower"}}
        measured = make_validator(metrics=metrics).run(DataLoader(Frames()), 1, save_pictures=False)
    finally:
        del METRIC_REGISTRY._obj_map["mean_blue"]
    frame = Frames()[3]["lq"]
    assert measured[3].restored["blue"] == pytest.approx((frame[2] // 2).double().mean().item())
    assert measured[3].blurred["blue"] == pytest.approx(frame[2].double().mean().item())
    assert measured[3].restored["psnr"] == pytest.approx(expected_psnr(3))


def test_the_protocol_of_the_options_is_used(make_validator):
    metrics = {"luma": {"type": "calculate_psnr", "crop_border": 3, "test_y_channel": True, "better": "higher"}}
    measured = make_validator(metrics=metrics).run(DataLoader(Frames()), 1, save_pictures=False)
    frame = Frames()[2]
    pictures = [to_picture(picture[None]) for picture in (frame["lq"] // 2, frame["gt"])]
    assert measured[2].restored["luma"] == pytest.approx(calculate_psnr(*pictures, 3, test_y_channel=True), abs=1e-6)


def test_a_frame_that_changes_its_size_is_refused():
    picture = torch.zeros(1, 3, 16, 20, dtype=torch.uint8)
    with pytest.raises(InputError, match="scene/1 is 20x16 blurred, 40x32 restored and 20x16 sharp"):
        measure("scene/1", FrameVersions(picture, picture.repeat(1, 1, 2, 2), picture), PSNR)


def test_compared_frames_are_evenly_spaced():
    assert compared_indices(4, 100) == {0, 25, 50, 75}
    assert compared_indices(8, 3) == {0, 1, 2}
    assert compared_indices(None, 3) == compared_indices(0, 3) == compared_indices(2, 0) == set()


@pytest.mark.parametrize(
    ("path", "dataroot", "key"),
    [
        ("scene/000001", None, "scene/000001"),
        ("scene/000001", "datasets/test_blur.lmdb", "scene/000001"),
        ("/data/test/scene/blur/000001.png", "/data/test", "scene/blur/000001"),
        ("baboon.png", None, "baboon"),
        # Keys and files with dots in their names.
        ("img.v1", "datasets/test_blur.lmdb", "img.v1"),
        ("scene.a/img.v1", None, "scene.a/img.v1"),
        ("scene/photo.png", "datasets/test_blur.lmdb", "scene/photo.png"),
        ("/data/test/1fromGOPR1096.MP4.png", "/data/test", "1fromGOPR1096.MP4"),
        ("/data.v2/test/img.v1.webp", "/data.v2/test", "img.v1"),
        # Nothing leads out of the folder that pictures are saved in.
        ("/etc/evil", "/data/test", "etc/evil"),
        ("../../evil", "datasets/test_blur.lmdb", "evil"),
        ("/data/test/../../evil.png", "/data/test", "evil"),
    ],
)
def test_frame_key(path, dataroot, key):
    assert frame_key(path, dataroot) == key


def validate_in_process(rank, world_size, folder):
    """One of several processes; leaves what it saw in a file."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world_size)
    net = torch.nn.BatchNorm2d(3)
    net.running_mean.fill_(rank + 1)
    share_buffers(net)
    opt = {"rank": rank, "world_size": world_size, "dist": True, "is_train": False, "name": "run"}
    opt.update(path={"visualization": str(folder)}, val={"metrics": PSNR, "comparison_frames": 3})
    validator = Validator(opt, restore, torch.device("cpu"))
    measured = validator.run(DataLoader(Frames(unmeasurable=(1,))), "run", save_pictures=True)
    torch.save((net.running_mean.tolist(), [tuple(frame) for frame in measured]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 6])
def test_processes_share_buffers_figures_and_pictures(make_validator, tmp_path, world_size):
    """With six processes one has no frame at all."""
    alone, together = tmp_path, tmp_path / "together"
    together.mkdir()
    loader = DataLoader(Frames(unmeasurable=(1,)))
    expected = make_validator(is_train=False, comparison_frames=3).run(loader, "run", save_pictures=True)
    torch.multiprocessing.spawn(validate_in_process, (world_size, together), nprocs=world_size)
    for rank in range(world_size):
        means, measured = torch.load(together / f"{rank}.pt", weights_only=True)
        assert means == [1, 1, 1], "those of the first process"
        assert [Measurement(*frame) for frame in measured] == expected, "the same to the last bit, in order"
    pictures = [path.relative_to(together) for path in together.rglob("*.png")]
    assert len(pictures) == 5 + 1
    for path in pictures:
        assert np.array_equal(cv2.imread(str(together / path)), cv2.imread(str(alone / path)))


def picture(value=0):
    return torch.full((1, 3, 8, 8), value, dtype=torch.uint8)


def test_pictures_are_on_the_disk_when_the_writer_ends(tmp_path):
    with PictureWriter() as writer:
        for number in range(40):
            writer.write(picture(number), tmp_path / f"{number % 3}" / f"{number}.png")
    for number in range(40):
        assert (cv2.imread(str(tmp_path / f"{number % 3}" / f"{number}.png")) == number).all()
    assert len(list(tmp_path.rglob("*.*"))) == 40


def test_the_writer_waits_for_a_slow_disk(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(validation, "write_png", lambda *_: gate.wait(10))
    handed_over = []

    def hand_over():
        with PictureWriter() as writer:
            for number in range(20):
                writer.write(picture(), tmp_path / f"{number}.png")
                handed_over.append(number)

    thread = threading.Thread(target=hand_over)
    thread.start()
    deadline = time.monotonic() + 10
    while len(handed_over) < validation.PENDING_PICTURES and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(handed_over) == validation.PENDING_PICTURES
    gate.set()
    thread.join(10)
    assert len(handed_over) == 20


def write_all(folder, count, error=None):
    with PictureWriter() as writer:
        for number in range(count):
            writer.write(picture(), folder / f"{number}.png")
        if error:
            raise error


@pytest.mark.parametrize("number_of_pictures", [1, 30])
def test_a_full_disk_names_the_picture_and_leaves_no_half_of_it(tmp_path, monkeypatch, number_of_pictures):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.Path, "replace", full)
    message = r"/0\.png could not be written \(.*No space left.*\): free some disk space or save fewer"
    with pytest.raises(InputError, match=message):
        write_all(tmp_path, number_of_pictures)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_validation_itself_is_the_one_that_is_raised(tmp_path, monkeypatch):
    def fails(*_):
        raise InputError("the picture")

    monkeypatch.setattr(validation, "write_png", fails)
    with pytest.raises(InputError, match="the frame"):
        write_all(tmp_path, 1, InputError("the frame"))


class Scripted:
    """A validator that reports what it is told."""

    def __init__(self, *values):
        self.values = iter(values)

    def run(self, dataloader, iteration, save_pictures):
        value = next(self.values)
        return [Measurement({"psnr": value, "error": 40 - value}, {"psnr": 20.0, "error": 20.0})]


@pytest.fixture
def train(tmp_path):
    """Validate a training at iterations 1, 2, ... with given figures; each call is another process of the run."""

    def train(*values, keep_best="psnr", first=1, dataset="val", ema_decay=0, **opt):
        opt = {
            "name": "run",
            "model_type": "MultiScaleDeblurModel",
            **{"num_gpu": 0, "dist": False, "rank": 0, "world_size": 1, "is_train": True},
            "network_g": {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2},
            "datasets": {"train": {"name": "train"}, "val": {"name": "val"}, "val_2": {"name": "val2"}},
            "path": {name: str(tmp_path) for name in ("models", "training_states", "visualization")},
            "train": {
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": []},
                "total_iter": 100,
                "pixel_opt": {"type": "L1Loss"},
                "ema_decay": ema_decay,
            },
            "val": {
                "metrics": {
                    "psnr": {"type": "calculate_psnr", "crop_border": 0},
                    "error": {"type": "calculate_niqe", "crop_border": 0, "better": "lower"},
                },
                "keep_best": keep_best,
            },
            **opt,
        }
        model = build_model(opt)
        model.__dict__["validator"] = Scripted(*values)
        loader = DataLoader(Frames(name=dataset))
        for iteration, _ in enumerate(values, first):
            mark(model, iteration)
            model.validation(loader, iteration, None, save_img=False)
        return model

    return train


def mark(model, iteration):
    """Make weights tell their iteration."""
    for net in (model.net_g, getattr(model, "net_g_ema", model.net_g)):
        net.conv1.weight.data.fill_(iteration)


def kept(tmp_path):
    """Iteration of the weights in ``net_g_best.pth`` and what it says about them."""
    content = torch.load(tmp_path / "net_g_best.pth", weights_only=True)
    return content["params"]["conv1.weight"].flatten()[0].item(), content["best"]


def test_the_best_weights_are_kept(train, tmp_path):
    model = train(25.0, 27.0, 26.0)
    assert kept(tmp_path) == (2, {"dataset": "val", "metric": "psnr", "val": 27.0, "iter": 2})
    content = torch.load(tmp_path / "net_g_best.pth", weights_only=True)
    assert list(content) == ["params", "network_g", "best"]
    again = train()
    again.load_network(again.net_g, str(tmp_path / "net_g_best.pth"), param_key="params")
    assert set(content["params"]) == set(model.net_g.state_dict())


def test_averaged_weights_are_kept_beside(train, tmp_path):
    train(25.0, ema_decay=0.9)
    content = torch.load(tmp_path / "net_g_best.pth", weights_only=True)
    assert list(content) == ["params", "params_ema", "network_g", "best"]


def test_a_resume_does_not_overwrite_better_weights(train, tmp_path):
    train(25.0, 28.0)
    # From a state before the best one, so that its iteration comes again.
    resumed = train(26.0, 27.5, 27.0, first=1)
    assert kept(tmp_path)[0] == 2
    assert kept(tmp_path)[1]["val"] == 28.0
    assert resumed.best_metric_results["val"]["psnr"] == {"better": "higher", "val": 28.0, "iter": 2}
    train(28.5, first=7)
    assert kept(tmp_path)[0] == 7


@pytest.mark.parametrize("unusable", [math.nan, 25.0])
def test_equal_and_undefined_figures_are_not_better(train, tmp_path, unusable):
    train(25.0, unusable)
    assert kept(tmp_path)[0] == 1


def test_lower_may_be_better(train, tmp_path):
    train(25.0, 27.0, 26.0, keep_best="error")
    assert kept(tmp_path) == (2, {"dataset": "val", "metric": "error", "val": 13.0, "iter": 2})


def logged(caplog, train, **options):
    get_root_logger().propagate = True
    with caplog.at_level(logging.INFO, "basicsr"):
        train(25.0, **options)
    return {line.split("#")[1].split(":")[0].strip(): line for line in caplog.text.splitlines() if "\t # " in line}


def test_the_gain_is_positive_where_the_restored_frame_is_better(train, caplog):
    """PSNR 25 beside 20; an error, of which less is better, of 15 beside 20."""
    lines = logged(caplog, train)
    for name in ("psnr", "error"):
        assert "blurred input: 20.0000\tgain: +5.0000" in lines[name]


@pytest.mark.parametrize("is_train", [True, False])
def test_the_best_so_far_belongs_to_trainings(train, caplog, is_train):
    for line in logged(caplog, train, is_train=is_train).values():
        assert ("Best: " in line) is is_train


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("is_train", [True, False])
def test_a_picture_that_is_not_finite_is_named(train, is_train, value):
    model = train(is_train=is_train)
    del model.__dict__["validator"]
    next(model.net_g.parameters()).data.fill_(value)
    with pytest.raises(InputError, match=r"scene/000000: the network restores pixels that are not finite"):
        model.validation(DataLoader(Frames(name="val")), 1, None, save_img=False)


def test_another_metric_starts_anew(train, tmp_path):
    train(28.0)
    train(25.0, keep_best="error")
    assert kept(tmp_path)[1]["metric"] == "error"


@pytest.mark.parametrize("options", [{"keep_best": None}, {"dataset": "val2"}, {"rank": 1}, {"is_train": False}])
def test_nothing_is_kept_unless_asked_for_on_the_first_validation_set_of_a_training(train, tmp_path, options):
    train(25.0, **options)
    assert not (tmp_path / "net_g_best.pth").exists()


def test_damaged_best_weights_are_named(train, tmp_path):
    train(25.0)
    path = tmp_path / "net_g_best.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"net_g_best.pth is damaged \(cut short\?\): delete it"):
        train(26.0)
