"""Patch of how BasicSR's own models save: whole files of finite weights, with what a resume needs to go on exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from macr_plugin.basicsr_compat.patching import Options

REMEDY = "lower train.optim_g.lr"


class Checkpoints(Protocol):
    """How files are saved, and what of a process goes into them."""

    def save_atomically(self, content: Any, path: Path) -> None:
        """Write what ``torch.save`` takes; atomic: the file is whole or absent."""

    def refuse_nonfinite_weights(self, networks: Iterable[Any], when: str, remedy: str) -> None:
        """Raise an error if a weight is not finite."""

    def random_states(self) -> Any:
        """Where the random generators of this process stand."""

    def restore_random_states(self, states: Any) -> None:
        """Put them there again."""


def patch_saving(checkpoints: Checkpoints) -> None:
    """Let every model of BasicSR save whole files, of finite weights alone, and resume with its random numbers.

    BasicSR writes in place, ignores a full disk after three tries, saves and validates weights that are not finite, and
    forgets at a resume the best figures and where the random generators stood. The plugin's models save by themselves.

    Args:
        checkpoints: How files are saved, and what of a process goes into them.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.dist_util import master_only

    resume_training, validation = BaseModel.resume_training, BaseModel.validation

    @master_only
    def save_network(self: Any, net: Any, net_label: str, current_iter: int, param_key: Any = "params") -> None:
        path = network_file(self.opt, net_label, current_iter)
        bare = {key: self.get_bare_model(single) for key, single in by_key(net, param_key).items()}
        checkpoints.refuse_nonfinite_weights(bare.values(), str(path), REMEDY)
        checkpoints.save_atomically({key: on_cpu(single) for key, single in bare.items()}, path)

    @master_only
    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        if current_iter == -1:
            return
        state = {
            **basic_state(self, epoch, current_iter),
            "order_of_processes": getattr(self, "order_of_processes", self.opt["world_size"]),
            "random": [checkpoints.random_states()],
            "best": plain_records(getattr(self, "best_metric_results", {})),
        }
        checkpoints.save_atomically(state, state_file(self.opt, current_iter))

    @functools.wraps(resume_training)
    def patched_resume_training(self: Any, resume_state: Options) -> None:
        resume_training(self, resume_state)
        restore_progress(self, resume_state, checkpoints.restore_random_states)

    @functools.wraps(validation)
    def patched_validation(self: Any, dataloader: Any, current_iter: Any, *args: Any, **kwargs: Any) -> None:
        from torch import nn

        networks = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        checkpoints.refuse_nonfinite_weights(networks, f"validation at {current_iter}", REMEDY)
        validation(self, dataloader, current_iter, *args, **kwargs)

    for function in (save_network, save_training_state):
        setattr(BaseModel, function.__name__, function)
    BaseModel.resume_training, BaseModel.validation = patched_resume_training, patched_validation


def network_file(opt: Options, net_label: str, current_iter: int) -> Path:
    """Where BasicSR keeps the weights of an iteration; -1 stands for ``latest``."""
    return Path(opt["path"]["models"], f"{net_label}_{'latest' if current_iter == -1 else current_iter}.pth")


def state_file(opt: Options, current_iter: int) -> Path:
    """Where BasicSR keeps the training state of an iteration."""
    return Path(opt["path"]["training_states"], f"{current_iter}.state")


def by_key(net: Any, param_key: str | list[str]) -> dict[str, Any]:
    """What BasicSR's ``save_network`` is given, one network and key or a list of each, as networks by key."""
    nets, keys = (value if isinstance(value, list) else [value] for value in (net, param_key))
    return dict(zip(keys, nets, strict=True))


def basic_state(model: Any, epoch: int, current_iter: int) -> Options:
    """What BasicSR itself puts into a training state."""
    return {
        "epoch": epoch,
        "iter": current_iter,
        "optimizers": [optimizer.state_dict() for optimizer in model.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in model.schedulers],
    }


def restore_progress(model: Any, state: Options, restore_random_states: Callable[[Any], None]) -> None:
    """Give a model back the order of its samples, its best figures and its random numbers.

    Args:
        model: Goes on from the state.
        state: A training state; one of BasicSR's own has none of them.
        restore_random_states: Puts the random generators of this process where they stood.
    """
    model.order_of_processes = state.get("order_of_processes", model.opt["world_size"])
    if state.get("best"):
        model.best_metric_results = state["best"]
    states = state.get("random", ())
    # Another number of processes draws in another way.
    if len(states) == model.opt["world_size"]:
        restore_random_states(states[model.opt["rank"]])


def on_cpu(network: Any) -> dict[str, Any]:
    """Weights of a network."""
    return {name.removeprefix("module."): value.cpu() for name, value in network.state_dict().items()}


def plain_records(best: dict[str, dict[str, Options]]) -> dict[str, dict[str, Options]]:
    """BasicSR's records of the best figures without numpy's numbers, which a safe loader refuses."""
    return {
        dataset: {metric: {**record, "val": float(record["val"])} for metric, record in records.items()}
        for dataset, records in best.items()
    }
