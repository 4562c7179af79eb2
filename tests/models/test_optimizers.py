"""Every optimizer and schedule that an option file may name trains a small network, as plain PyTorch does."""

import copy
import inspect

import pytest
import torch
from torch import nn

from macr_plugin.archs.pyramid import resize
from macr_plugin.basicsr_compat.schedule import patch_changed_schedules
from macr_plugin.options.optimization import optimizers, schedulers

#: What has no default.
NEEDED = {
    "CosineAnnealingLR": {"T_max": 10},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CosineAnnealingRestartLR": {"periods": [10]},
    "CyclicLR": {"base_lr": 1e-3, "max_lr": 1e-2, "cycle_momentum": False},
    "ExponentialLR": {"gamma": 0.5},
    "MultiStepLR": {"milestones": [2]},
    "MultiStepRestartLR": {"milestones": [2]},
    "OneCycleLR": {"max_lr": 1e-2, "total_steps": 10},
    "PolynomialLR": {"total_iters": 10},
    "StepLR": {"step_size": 2},
}


def steps(model, batch, last, first=1):
    rates = []
    for iteration in range(first, last + 1):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        rates.append(model.get_current_learning_rate()[0])
    return rates


@pytest.mark.parametrize("name", sorted(optimizers()))
def test_an_optimizer_steps_as_in_plain_pytorch(build, batch, name):
    model = build(optim_g={"type": name, "lr": 1e-3})
    net = copy.deepcopy(model.net_g)
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=1e-3)
    steps(model, batch, 2)
    for _ in range(2):
        optimizer.zero_grad()
        restored = net(batch["lq"], all_scales=True)
        sum(nn.functional.l1_loss(one, resize(batch["gt"], one.shape[-2:])) for one in restored).backward()
        optimizer.step()
    for trained, expected in zip(model.net_g.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(trained, expected)


@pytest.mark.parametrize("name", sorted(optimizers()))
def test_an_optimizer_goes_on_bit_for_bit(build, batch, tmp_path, restored_basicsr, log, name):
    """From its training state, with the schedule that changes most of what an optimizer has."""
    patch_changed_schedules()
    arguments = inspect.signature(optimizers()[name]).parameters
    schedule = {**NEEDED["CyclicLR"], "cycle_momentum": bool({"betas", "momentum"} & arguments.keys())}
    options = {"optim_g": {"type": name, "lr": 1e-3}, "scheduler": {"type": "CyclicLR", **schedule}}
    if "weight_decay" in arguments:
        options["optim_g"]["weight_decay"] = 0.01
    undisturbed, stopped, resumed = (build(**options) for _ in range(3))
    for model, count in ((undisturbed, 4), (stopped, 2)):
        steps(model, batch, count)
    stopped.save(0, 2)
    resumed.net_g.load_state_dict(torch.load(tmp_path / "models" / "net_g_2.pth", weights_only=True)["params"])
    resumed.resume_training(torch.load(tmp_path / "training_states" / "2.state", weights_only=True))
    steps(resumed, batch, 4, first=3)
    expected = undisturbed.net_g.state_dict()
    assert all(torch.equal(weight, expected[key]) for key, weight in resumed.net_g.state_dict().items())
    assert "changed options" not in log.text


@pytest.mark.parametrize("name", sorted(schedulers()))
def test_a_schedule_gives_the_rates_of_its_class(build, batch, name):
    arguments = NEEDED.get(name, {})
    model = build(optim_g={"type": "SGD", "lr": 1e-3}, scheduler={"type": name, **arguments})
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = schedulers()[name](optimizer, **arguments)
    expected = []
    for _ in range(4):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert steps(model, batch, 4) == pytest.approx(expected)


def test_the_names_of_basicsr_mean_its_own_schedules():
    from basicsr.models import lr_scheduler

    assert schedulers()["MultiStepLR"] is lr_scheduler.MultiStepRestartLR
    assert "LBFGS" not in optimizers()
    assert "LambdaLR" not in schedulers()
