import logging
from pathlib import Path

import pytest
import torch
from basicsr.models import build_model
from torch.nn import functional
from torch.utils.data import DataLoader

from macr_plugin.archs.motion_field import CLASSES, motion_distance

SMALL = {"type": "SunMotionNet", "channels": [4, 4, 8]}


@pytest.fixture
def build(tmp_path):
    def build(is_train=True, **train):
        opt = {
            "name": "run",
            "model_type": "MotionClassifierModel",
            "num_gpu": 0,
            "dist": False,
            "rank": 0,
            "world_size": 1,
            "is_train": is_train,
            "network_g": dict(SMALL),
            "path": {name: str(tmp_path) for name in ("models", "training_states", "visualization")},
            "train": {
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": []},
                "total_iter": 10,
                "pixel_opt": {"type": "MotionCrossEntropyLoss"},
                **train,
            },
            "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}},
        }
        torch.manual_seed(0)
        return build_model(opt)

    return build


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    patches = torch.randint(256, (5, 3, 30, 30), generator=generator, dtype=torch.uint8)
    return {"lq": patches, "label": torch.tensor([0, 5, 72, 30, 5]), "lq_path": ["a"] * 5}


def test_a_step_is_that_of_plain_pytorch(build, batch):
    model = build()
    net = build().net_g
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    logits = net.classifier(batch["lq"] / 255).flatten(1)
    loss = functional.cross_entropy(logits, batch["label"])
    loss.backward()
    optimizer.step()
    model.feed_data(batch)
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert log["l_pix"] == pytest.approx(loss.item(), rel=1e-6)
    assert log["accuracy"] == pytest.approx((logits.argmax(dim=1) == batch["label"]).float().mean().item())
    for ours, theirs in zip(model.net_g.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("acceleration", [{"precision": "bf16"}, {"channels_last": True}])
def test_accelerated_steps_learn_too(build, batch, acceleration):
    model = build(acceleration=acceleration, ema_decay=0.5)
    model.feed_data(batch)
    losses = []
    for step in range(1, 9):
        model.optimize_parameters(step)
        losses.append(model.get_current_log()["l_pix"])
    assert losses[-1] < losses[0]


class Patches(torch.utils.data.Dataset):
    def __init__(self, batch):
        self.opt = {"name": "patches", "phase": "val"}
        self.batch = batch

    def __len__(self):
        return len(self.batch["label"])

    def __getitem__(self, index):
        return {name: values[index] for name, values in self.batch.items()}


def test_patches_are_measured_by_accuracy_and_motion_error(build, batch, caplog):
    model = build()
    with torch.no_grad():
        found = model.net_g.classifier(batch["lq"] / 255).flatten(1).argmax(dim=1)
    # The first answer is made the right one.
    batch["label"][0] = found[0]
    vectors = CLASSES.vectors()
    written = {}
    writer = type("Writer", (), {"add_scalar": lambda self, name, value, step: written.update({name: (value, step)})})()
    with caplog.at_level(logging.INFO, logger="basicsr"):
        model.nondist_validation(DataLoader(Patches(batch), batch_size=2), 3, writer, False)
    errors = motion_distance(vectors[found], vectors[batch["label"]])
    assert model.metric_results["motion_error"] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert model.metric_results["accuracy"] == pytest.approx((found == batch["label"]).double().mean().item())
    assert written["metrics/patches/accuracy"] == (model.metric_results["accuracy"], 3)


def test_a_checkpoint_is_saved_after_the_patches_were_measured(build, batch):
    model = build()
    model.opt["datasets"] = {"val": {"name": "patches"}}
    model.opt["val"] = {"val_freq": 3}
    model.save(0, 3)
    state = Path(model.opt["path"]["training_states"], "3.state")
    assert not state.exists()
    model.nondist_validation(DataLoader(Patches(batch), batch_size=2), 3, None, False)
    assert state.exists()


def test_frames_are_restored(build):
    model = build(is_train=False)
    frame = torch.rand(1, 3, 33, 40)
    model.feed_data({"lq": frame, "gt": frame})
    model.test()
    assert model.output.shape == frame.shape
    with torch.no_grad():
        assert torch.equal(model.output, model.net_g(frame))
