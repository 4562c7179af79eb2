"""Which optimizers and schedules a training may name: those of torch, and BasicSR's schedules before them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

#: They need a closure, sparse gradients, or weights that are matrices.
UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
#: They need functions, other schedules or a measured value, which an option file cannot give.
UNFIT_SCHEDULERS = (
    *("LRScheduler", "LambdaLR", "MultiplicativeLR"),
    *("ReduceLROnPlateau", "SequentialLR", "ChainedScheduler"),
)


@functools.cache
def optimizers() -> dict[str, Any]:
    """Classes of optimizers by the name that ``train.optim_g.type`` gives them."""
    import torch

    return {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in UNFIT_OPTIMIZERS
    }


@functools.cache
def schedulers() -> dict[str, Any]:
    """Classes of schedules by the name that ``train.scheduler.type`` gives them.

    ``MultiStepLR`` is BasicSR's, as everywhere in BasicSR.
    """
    import torch
    from basicsr.models import lr_scheduler

    base = torch.optim.lr_scheduler.LRScheduler
    torchs = {
        name: kind
        for name, kind in vars(torch.optim.lr_scheduler).items()
        if isinstance(kind, type) and issubclass(kind, base) and not name.startswith("_")
    }
    return {name: kind for name, kind in torchs.items() if name not in UNFIT_SCHEDULERS} | {
        "MultiStepLR": lr_scheduler.MultiStepRestartLR,
        "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
        "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
    }


def stock_optimizers() -> list[str]:
    """Those of :func:`optimizers` that the installed BasicSR builds for its own models: 1.4.2 knows ``Adam`` alone."""
    from basicsr.models.base_model import BaseModel

    return _named_in(BaseModel.get_optimizer, optimizers())


def stock_schedulers() -> list[str]:
    """Those of :func:`schedulers` that the installed BasicSR builds for its own models."""
    from basicsr.models.base_model import BaseModel

    return _named_in(BaseModel.setup_schedulers, schedulers())


def _named_in(method: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Names that a method compares with, by its source; all of them if that is not there."""
    try:
        source = inspect.getsource(method)
    except OSError:
        return list(names)
    return [name for name in names if re.search(rf"""["']{name}["']""", source)]
