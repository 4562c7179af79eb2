"""Adversarial training of small networks, against the same steps written out by hand."""

import copy
from pathlib import Path

import pytest
import torch
from basicsr.losses import build_loss
from basicsr.models import build_model
from basicsr.utils.misc import check_resume
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from macr_plugin.archs.pyramid import resize
from macr_plugin.errors import InputError


class SmallDiscriminator(nn.Module):
    """Many logits a picture, and batch statistics."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3, stride=2)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(autouse=True)
def extra_network():
    ARCH_REGISTRY._obj_map["SmallDiscriminator"] = SmallDiscriminator
    yield
    del ARCH_REGISTRY._obj_map["SmallDiscriminator"]


@pytest.fixture
def build(tmp_path):
    def build(path=None, **train):
        opt = {
            "name": "run",
            "model_type": "MultiScaleDeblurGANModel",
            "num_gpu": 0,
            "dist": False,
            "rank": 0,
            "world_size": 1,
            "is_train": True,
            "network_g": {"type": "DeepDeblur", "num_feat": 4, "num_blocks": 1, "kernel_size": 3},
            "network_d": {"type": "SmallDiscriminator"},
            "path": {name: str(tmp_path / name) for name in ("models", "training_states", "visualization")}
            | {"resume_state": None, **(path or {})},
            "train": {
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "optim_d": {"type": "Adam", "lr": 2e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
                "total_iter": 10,
                "pixel_opt": {"type": "MSELoss"},
                "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
                **train,
            },
            "val": {"metrics": {}},
        }
        for name in ("models", "training_states", "visualization"):
            Path(opt["path"][name]).mkdir(exist_ok=True)
        torch.manual_seed(0)
        return build_model(opt)

    return build


def step(model, batch, iteration):
    model.update_learning_rate(iteration)
    model.feed_data(batch)
    model.optimize_parameters(iteration)
    return model.get_current_log()


def content_loss(pyramid, sharp):
    return sum(nn.functional.mse_loss(restored, resize(sharp, restored.shape[-2:])) for restored in pyramid)


def weights_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same_weights(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_equals_plain_pytorch(build, batch):
    """Bit for bit: content and adversarial loss of the network, then both halves of the discriminator's."""
    model = build(grad_clip_norm=0.05)
    net_g, net_d = copy.deepcopy(model.net_g), copy.deepcopy(model.net_d)
    optimizer_g = torch.optim.Adam(net_g.parameters(), 1e-3)
    optimizer_d = torch.optim.Adam(net_d.parameters(), 2e-3)
    cross_entropy = nn.BCEWithLogitsLoss()
    for iteration in (1, 2):
        log = step(model, batch, iteration)
        pyramid = net_g(batch["lq"], all_scales=True)
        content = content_loss(pyramid, batch["gt"])
        logits = net_d(pyramid[0])
        adversarial = 0.1 * cross_entropy(logits, torch.ones_like(logits))
        gradients = torch.autograd.grad(content + adversarial, list(net_g.parameters()))
        for parameter, gradient in zip(net_g.parameters(), gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(net_g.parameters(), 0.05)
        optimizer_g.step()
        optimizer_d.zero_grad()
        real_logits = net_d(batch["gt"])
        real = cross_entropy(real_logits, torch.ones_like(real_logits))
        fake_logits = net_d(pyramid[0].detach())
        fake = cross_entropy(fake_logits, torch.zeros_like(fake_logits))
        (real + fake).backward()
        optimizer_d.step()
        expected = {
            "l_pix": content,
            "l_g_gan": adversarial,
            "l_d_real": real,
            "l_d_fake": fake,
            "out_d_real": real_logits.mean(),
            "out_d_fake": fake_logits.mean(),
        }
        assert {name: log[name] for name in expected} == {name: value.item() for name, value in expected.items()}
        assert {f"l_pix_scale{scale}" for scale in range(3)} == set(log) - set(expected)
    assert same_weights(model.net_g.state_dict(), net_g.state_dict())
    for ours, theirs in zip(model.net_d.parameters(), net_d.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_no_gradient_leaks_to_the_other_network(build, batch):
    model = build(
        optim_g={"type": "Adam", "lr": 0.0},
        optim_d={"type": "Adam", "lr": 0.0},
        gan_opt={"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 1e3},
    )
    step(model, batch, 1)
    net_g, net_d = copy.deepcopy(model.net_g), copy.deepcopy(model.net_d)
    loss = build_loss({"type": "GANLoss", "gan_type": "vanilla"})
    net_d.zero_grad()
    (loss(net_d(batch["gt"]), True, True) + loss(net_d(net_g(batch["lq"]).detach()), False, True)).backward()
    for ours, alone in zip(model.net_d.parameters(), net_d.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, alone.grad, rtol=1e-4, atol=1e-6)
    assert all(parameter.requires_grad for parameter in model.net_d.parameters())

    without_adversary = build(gan_opt={"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.0})
    step(without_adversary, batch, 1)
    plain = copy.deepcopy(build().net_g)
    pyramid = plain(batch["lq"], all_scales=True)
    content_loss(pyramid, batch["gt"]).backward()
    for ours, alone in zip(without_adversary.net_g.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, alone.grad)


def test_the_network_waits_for_the_discriminator(build, batch):
    """SRGANModel's spelling: nothing for the network up to iteration 2, then every second iteration."""
    model = build(net_d_init_iters=2, net_d_iters=2, ema_decay=0.5)
    updated = []
    for iteration in range(1, 7):
        before_g, before_d = weights_of(model.net_g), weights_of(model.net_d)
        before_average = weights_of(model.net_g_ema)
        log = step(model, batch, iteration)
        assert not same_weights(before_d, model.net_d.state_dict())
        assert {"l_d_real", "l_d_fake", "out_d_real", "out_d_fake"} <= set(log)
        moved = not same_weights(before_g, model.net_g.state_dict())
        assert moved is ("l_g_gan" in log) is ("l_pix" in log)
        assert moved is not same_weights(before_average, model.net_g_ema.state_dict())
        if moved:
            updated.append(iteration)
    assert updated == [4, 6]


def test_ema_follows_the_network(build, batch):
    model = build(ema_decay=0.75)
    before = weights_of(model.net_g_ema)
    step(model, batch, 1)
    for name, averaged in model.net_g_ema.named_parameters():
        torch.testing.assert_close(averaged, 0.75 * before[name] + 0.25 * model.net_g.state_dict()[name])


def test_resume_continues_exactly(build, batch, tmp_path):
    """Weights of both networks, moments of both optimizers, both schedulers and the average."""
    model = build(ema_decay=0.9)
    for iteration in (1, 2):
        step(model, batch, iteration)
    model.save(epoch=0, current_iter=2)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["net_d_2.pth", "net_g_2.pth"]
    weights = torch.load(tmp_path / "models" / "net_d_2.pth", weights_only=True)
    assert list(weights) == ["params"]
    assert set(weights["params"]) == set(model.net_d.state_dict())

    opt = copy.deepcopy(model.opt)
    opt["path"]["resume_state"] = str(tmp_path / "training_states" / "2.state")
    check_resume(opt, 2)
    again = build(ema_decay=0.9, path={name: opt["path"][name] for name in opt["path"] if name.startswith("pretrain")})
    again.resume_training(torch.load(opt["path"]["resume_state"], weights_only=True))
    for iteration in (3, 4, 5):
        assert step(model, batch, iteration) == step(again, batch, iteration)
    for name in ("net_g", "net_d", "net_g_ema"):
        assert same_weights(getattr(model, name).state_dict(), getattr(again, name).state_dict())
    for one in (model, again):
        assert one.optimizer_g.param_groups[0]["lr"] == 5e-4
        assert one.optimizer_d.param_groups[0]["lr"] == 1e-3


def test_the_end_of_a_training_saves_both_networks(build, tmp_path):
    build().save(epoch=-1, current_iter=-1)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["net_d_latest.pth", "net_g_latest.pth"]
    assert list((tmp_path / "training_states").iterdir()) == []


def test_the_discriminator_learns_to_tell_sharp_from_restored(build, batch):
    model = build(
        optim_g={"type": "Adam", "lr": 0.0},
        optim_d={"type": "Adam", "lr": 1e-2},
        scheduler={"type": "MultiStepLR", "milestones": []},
    )
    first = step(model, batch, 1)
    for iteration in range(2, 60):
        last = step(model, batch, iteration)
    assert last["l_d_real"] + last["l_d_fake"] < 0.5 * (first["l_d_real"] + first["l_d_fake"])
    assert last["out_d_real"] > 0 > last["out_d_fake"]


@pytest.mark.parametrize("acceleration", [{"compile": True}, {"precision": "bf16", "compile": True}])
def test_what_these_steps_cannot_do_is_refused(build, acceleration):
    with pytest.raises(InputError, match=r"neither compiles nor captures.*set compile and cuda_graph to false"):
        build(acceleration=acceleration)


def test_reduced_precision_stays_near_full_precision(build, batch):
    """Weights and losses in float32, both networks in bfloat16, of which a number has 8 bits."""
    reduced, full = build(acceleration={"precision": "bf16", "channels_last": True}), build()
    logs = [step(model, batch, 1) for model in (reduced, full)]
    assert logs[0] != logs[1]
    assert logs[0] == pytest.approx(logs[1], rel=0.02, abs=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in reduced.net_d.parameters())
    assert next(reduced.net_d.parameters()).is_contiguous(memory_format=torch.channels_last)


def test_only_the_file_of_the_network_records_it(build, tmp_path):
    model = build()
    model.save(epoch=0, current_iter=1)
    network, discriminator = (
        torch.load(tmp_path / "models" / f"net_{label}_1.pth", weights_only=True) for label in "gd"
    )
    assert network["network_g"] == {"type": "DeepDeblur", "num_feat": 4, "num_blocks": 1, "kernel_size": 3}
    assert list(discriminator) == ["params"]


@pytest.mark.parametrize("reaction", ["stop", "skip"])
def test_a_loss_of_the_discriminator_alone_that_is_not_finite(build, batch, monkeypatch, reaction):
    model = build(on_nonfinite=reaction)
    loss = build_loss({"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1})

    def poisoned(logits, is_sharp, is_disc):
        return loss(logits, is_sharp, is_disc) * (float("nan") if is_disc else 1)

    monkeypatch.setattr(model, "cri_gan", poisoned)
    if reaction == "stop":
        with pytest.raises(InputError, match="the loss is not finite at step 1 "):
            step(model, batch, 1)
        return
    before = weights_of(model.net_g)
    step(model, batch, 1)
    assert all(value.isfinite().all() for value in model.net_d.state_dict().values())
    assert not same_weights(before, weights_of(model.net_g)), "the network's own loss was finite"


@pytest.mark.parametrize("picture", ["lq", "gt"])
def test_a_skipped_step_leaves_batch_statistics_alone(build, batch, picture, tmp_path):
    """The discriminator's batch norm sees the pictures themselves."""
    model = build(on_nonfinite="skip")
    assert any("running_mean" in name for name in model.net_d.state_dict())
    step(model, {**batch, picture: torch.full_like(batch[picture], float("nan"))}, 1)
    for network in (model.net_g, model.net_d):
        assert all(value.isfinite().all() for value in network.state_dict().values())
    before = model.net_d.state_dict()["layers.1.running_mean"].clone()
    step(model, batch, 2)
    assert not torch.equal(model.net_d.state_dict()["layers.1.running_mean"], before), "a good step counts"
