"""A resume follows the option file's schedule and settings where they were changed, and says so."""

import copy
import logging

import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger

from macr_plugin.basicsr_compat import schedule
from macr_plugin.errors import InputError

COSINE = {"type": "CosineAnnealingRestartLR", "periods": [20], "restart_weights": [1], "eta_min": 1e-7}
STEPS = {"type": "MultiStepLR", "milestones": [3, 9], "gamma": 0.5}


class Run(BaseModel):
    """One weight, one optimizer, one schedule, as BasicSR's models set them up."""

    def __init__(self, scheduler, lr=1e-3, total_iter=20, optimizer="Adam", **settings):
        super().__init__(
            {"num_gpu": 0, "is_train": True, "train": {"scheduler": copy.deepcopy(scheduler), "total_iter": total_iter}}
        )
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.optimizers = [getattr(torch.optim, optimizer)([self.weight], lr, **settings)]
        self.setup_schedulers()

    def train(self, first, last, warmup_iter=-1):
        rates = []
        for step in range(first, last + 1):
            self.optimizers[0].step()
            self.update_learning_rate(step, warmup_iter)
            rates += self.get_current_learning_rate()
        return rates

    def state(self, iteration):
        state = {
            "iter": iteration,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        }
        return copy.deepcopy(state)


@pytest.fixture(autouse=True)
def messages(caplog):
    logger = get_root_logger()
    logger.propagate = True
    logger.setLevel(logging.INFO)
    schedule.patch_changed_schedules()
    return caplog


CHANGES = {
    "longer cosine": (COSINE, {**COSINE, "periods": [40]}, {}, "periods [40] of the option file instead of [20]"),
    "more periods": (COSINE, {**COSINE, "periods": [4, 6, 30], "restart_weights": [1, 0.5, 0.25]}, {}, "periods"),
    "floor": (COSINE, {**COSINE, "eta_min": 1e-5}, {}, "eta_min 1e-05 of the option file instead of 1e-07"),
    "rate of a cosine": (COSINE, COSINE, {"lr": 5e-4}, "lr [0.0005] of the option file instead of [0.001]"),
    "rate of steps": (STEPS, STEPS, {"lr": 5e-4}, "lr [0.0005]"),
    "milestones": (STEPS, {**STEPS, "milestones": [5, 5, 12]}, {}, "milestones [5, 5, 12] of the option file"),
    "restarts": (STEPS, {**STEPS, "restarts": [0, 4], "restart_weights": [1, 0.3]}, {}, "restarts"),
    "factor": (STEPS, {**STEPS, "gamma": 0.1}, {}, "gamma 0.1 of the option file instead of 0.5"),
    "steps to cosine": (STEPS, COSINE, {}, "periods"),
    "cosine to steps": (COSINE, STEPS, {}, "milestones"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_changed_schedules_are_followed(messages, name, stop):
    """The rates after the resume are those of a training that had the new schedule from the start."""
    before, after, settings, message = CHANGES[name]
    expected = Run(after, **settings).train(1, 20)
    first = Run(before)
    first.train(1, stop)
    resumed = Run(after, **settings)
    resumed.resume_training(first.state(stop))
    assert resumed.train(stop + 1, 20) == pytest.approx(expected[stop:], rel=1e-9)
    assert message in messages.text


@pytest.mark.parametrize("scheduler", [COSINE, STEPS])
@pytest.mark.parametrize("warmup_iter", [-1, 6])
def test_an_unchanged_schedule_goes_on_bit_for_bit(messages, scheduler, warmup_iter):
    expected = Run(scheduler).train(1, 20, warmup_iter)
    first = Run(scheduler)
    first.train(1, 5, warmup_iter)
    resumed = Run(scheduler)
    resumed.resume_training(first.state(5))
    assert resumed.train(6, 20, warmup_iter) == expected[5:]
    assert "changed options" not in messages.text


#: torch's schedules that an option file may name, and what of their arguments has no default.
TORCH_SCHEDULES = {
    "ConstantLR": {"total_iters": 6},
    "CosineAnnealingLR": {"T_max": 20},
    "CosineAnnealingWarmRestarts": {"T_0": 4, "T_mult": 2},
    "CyclicLR": {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 3},
    "CyclicLR without momentum": {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 3, "cycle_momentum": False},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"total_iters": 6},
    "OneCycleLR": {"max_lr": 1e-2, "total_steps": 20},
    "PolynomialLR": {"total_iters": 20},
    "StepLR": {"step_size": 3},
}
OPTIMIZERS = {"AdamW": {"betas": (0.8, 0.9)}, "SGD": {"momentum": 0.9, "nesterov": True}}


def with_torch_schedule(optimizer, schedule, **changes):
    arguments = {**TORCH_SCHEDULES[schedule], **changes}
    run = Run(STEPS, optimizer=optimizer, **OPTIMIZERS[optimizer])
    run.schedulers = [getattr(torch.optim.lr_scheduler, schedule.split()[0])(run.optimizers[0], **arguments)]
    return run


def momenta(run, first, last):
    """Rates, momenta and weights of a run's steps."""
    found = []
    for step in range(first, last + 1):
        run.weight.grad = torch.full((1,), float(step))
        rates = run.train(step, step)
        group = run.optimizers[0].param_groups[0]
        found.append((rates, group.get("betas"), group.get("momentum"), run.weight.item()))
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", TORCH_SCHEDULES)
@pytest.mark.parametrize("stop", [1, 6])
def test_an_unchanged_schedule_of_torch_goes_on_bit_for_bit(messages, tmp_path, optimizer, name, stop):
    """Some of them change the optimizer's momentum at each step: that is no changed option."""
    expected = momenta(with_torch_schedule(optimizer, name), 1, 14)
    first = with_torch_schedule(optimizer, name)
    momenta(first, 1, stop)
    torch.save(first.state(stop), tmp_path / "state")
    resumed = with_torch_schedule(optimizer, name)
    with torch.no_grad():
        resumed.weight.copy_(first.weight)
    resumed.resume_training(torch.load(tmp_path / "state", weights_only=True))
    assert momenta(resumed, stop + 1, 14) == expected[stop:]
    assert "changed options" not in messages.text


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
def test_a_changed_schedule_of_torch_is_refused(name):
    """What its rate would be at this step only a training from the start would tell."""
    first = with_torch_schedule("SGD", name)
    momenta(first, 1, 3)
    (key, value) = next(iter(TORCH_SCHEDULES[name].items()))
    resumed = with_torch_schedule("SGD", name, **{key: value * 2})
    with pytest.raises(InputError, match=rf"train.scheduler: a changed {name.split()[0]} cannot be resumed"):
        resumed.resume_training(first.state(3))


def test_the_second_of_cycled_betas_follows_the_option_file(messages):
    first, resumed = (with_torch_schedule("AdamW", "OneCycleLR") for _ in range(2))
    momenta(first, 1, 5)
    momentum = first.optimizers[0].param_groups[0]["betas"][0]
    resumed.optimizers[0].param_groups[0]["betas"] = (0.5, 0.7)
    resumed.resume_training(first.state(5))
    assert resumed.optimizers[0].param_groups[0]["betas"] == (momentum, 0.7)
    assert messages.text.count("changed options") == 1


def test_changed_settings_of_the_optimizer_are_followed(messages):
    first = Run(STEPS)
    first.train(1, 3)
    resumed = Run(STEPS, betas=(0.5, 0.9), weight_decay=0.1)
    resumed.resume_training(first.state(3))
    group = resumed.optimizers[0].param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.9), 0.1)
    assert "betas [0.5, 0.9] of the option file instead of [0.9, 0.999]" in messages.text
    assert "weight_decay 0.1 of the option file instead of 0" in messages.text


def test_a_training_that_is_over_is_refused():
    with pytest.raises(InputError, match=r"total_iter 20 is less than the 21 steps of the training state"):
        Run(STEPS).resume_training(Run(STEPS).state(21))
    Run(STEPS).resume_training(Run(STEPS).state(20))


def test_another_scheduler_s_change_is_refused():
    class Constant(torch.optim.lr_scheduler.ConstantLR):
        pass

    first, resumed = Run(STEPS), Run(STEPS)
    first.schedulers = [Constant(first.optimizers[0], factor=0.5)]
    resumed.schedulers = [Constant(resumed.optimizers[0], factor=0.25)]
    with pytest.raises(InputError, match="a changed Constant cannot be resumed"):
        resumed.resume_training(first.state(1))
