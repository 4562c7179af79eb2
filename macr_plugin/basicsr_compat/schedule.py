"""Patches of how BasicSR resumes with options that were changed since: the option file decides."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from macr_plugin.basicsr_compat.patching import Options
from macr_plugin.errors import InputError

#: Where a scheduler stands; everything else in it is its schedule.
PROGRESS = {
    "last_epoch",
    "_step_count",
    "_last_lr",
    "_get_lr_called_within_step",
    "_is_initial",
    "verbose",
    "T_cur",
    "T_i",
}
#: What a group of an optimizer has beside its hyper-parameters: the weights, the rate of the moment, how it is run.
NO_HYPER_PARAMETERS = {"params", "lr", "initial_lr", "capturable", "differentiable", "foreach", "fused", "maximize"}


def patch_changed_schedules() -> None:
    """Let a resume follow the option file where it differs from the training state, and log each difference.

    BasicSR takes rates, schedule and the optimizer's settings from the state without a word, and ends in a TypeError
    where the training outlives the schedule of the state.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import get_root_logger

    resume_training = BaseModel.resume_training

    @functools.wraps(resume_training)
    def patched_resume_training(self: Any, resume_state: Options) -> None:
        refuse_finished(self.opt, resume_state)
        schedules = [schedule_of(scheduler) for scheduler in self.schedulers]
        settings = [[settings_of(group) for group in optimizer.param_groups] for optimizer in self.optimizers]
        resume_training(self, resume_state)
        changes = []
        for scheduler, saved, schedule in zip(self.schedulers, resume_state["schedulers"], schedules, strict=True):
            changes += follow_schedule(scheduler, saved, schedule)
        for optimizer, groups in zip(self.optimizers, settings, strict=True):
            is_cycled = any(cycles_momentum(scheduler, optimizer) for scheduler in self.schedulers)
            for group, file_settings in zip(optimizer.param_groups, groups, strict=True):
                written = with_momentum_of(group, file_settings) if is_cycled else file_settings
                changes += differences(group, written)
                group.update(written)
        for change in dict.fromkeys(changes):
            get_root_logger().warning(f"Resume with changed options: {change}.")

    BaseModel.resume_training = patched_resume_training


def refuse_finished(opt: Options, resume_state: Options) -> None:
    """Refuse to resume beyond the end of the training.

    Raises:
        InputError: With both numbers of steps.
    """
    total = int(opt["train"]["total_iter"])
    if resume_state["iter"] > total:
        raise InputError(
            f"train.total_iter {total} is less than the {resume_state['iter']} steps of the training state: raise it, "
            "or set path.resume_state to an earlier state"
        )


def schedule_of(scheduler: Any) -> dict[str, Any]:
    """What decides a scheduler's rates, without where it stands."""
    return {key: value for key, value in scheduler.state_dict().items() if key not in PROGRESS}


def settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of an optimizer's group, all but the learning rate."""
    return {key: value for key, value in group.items() if key not in NO_HYPER_PARAMETERS}


def cycles_momentum(scheduler: Any, optimizer: Any) -> bool:
    """Whether a scheduler sets an optimizer's momentum at each step, as ``OneCycleLR`` does."""
    return scheduler.optimizer is optimizer and getattr(scheduler, "cycle_momentum", False)


def with_momentum_of(group: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an optimizer's group with the momentum of the moment, which is the first of its betas if any."""
    if "betas" in settings:
        return {**settings, "betas": (group["betas"][0], *settings["betas"][1:])}
    return {**settings, "momentum": group["momentum"]}


def differences(state: Mapping[str, Any], written: Mapping[str, Any]) -> list[str]:
    """One line for each value that the state has otherwise than the option file."""
    return [
        f"{key} {plain(value)} of the option file instead of {plain(state.get(key))} of the training state"
        for key, value in written.items()
        if plain(state.get(key)) != plain(value)
    ]


def plain(value: Any) -> Any:
    """A value as the option file has it: BasicSR keeps tuples, and milestones as counters."""
    if isinstance(value, dict):
        return sorted(value.elements()) if hasattr(value, "elements") else value
    return list(value) if isinstance(value, tuple) else value


def follow_schedule(scheduler: Any, saved: Mapping[str, Any], written: Mapping[str, Any]) -> list[str]:
    """Let a scheduler that was loaded from a state go on with the schedule of the option file.

    Args:
        scheduler: With the state loaded; changed in place, and the rates of its optimizer, where the schedule differs.
        saved: That state.
        written: The schedule as the option file has it.

    Returns:
        One line for each difference.

    Raises:
        InputError: If the schedule differs and its rate at this step cannot be told.
    """
    changes = differences(saved, written)
    if not changes:
        return []
    for key in schedule_of(scheduler):
        del vars(scheduler)[key]
    vars(scheduler).update(written)
    rates = rates_of(scheduler)
    for group, initial, rate in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, rates, strict=True):
        group["initial_lr"], group["lr"] = initial, rate
    scheduler._last_lr = list(rates)
    return [change.replace("base_lrs", "lr") for change in changes]


def rates_of(scheduler: Any) -> list[float]:
    """Learning rates at the step where a scheduler stands, from its schedule alone.

    Raises:
        InputError: If it is none of BasicSR's schedulers.
    """
    from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

    if isinstance(scheduler, CosineAnnealingRestartLR):
        return scheduler.get_lr()
    if not isinstance(scheduler, MultiStepRestartLR):
        raise InputError(
            f"train.scheduler: a changed {type(scheduler).__name__} cannot be resumed: restore the options of the start"
        )
    step = scheduler.last_epoch
    restart = max((start for start in scheduler.restarts if start <= step), default=0)
    weight = dict(zip(scheduler.restarts, scheduler.restart_weights, strict=True)).get(restart, 1)
    passed = sum(count for milestone, count in scheduler.milestones.items() if restart < milestone <= step)
    return [base * weight * math.pow(scheduler.gamma, passed) for base in scheduler.base_lrs]
