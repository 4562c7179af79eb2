"""Which optimizers and schedules a training may name: those of torch, and BasicSR's schedules before them."""

from __future__ import annotations

import functools
from typing import Any

#: They need a closure, sparse gradients, or weights that are matrices.
UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
#: They need functions, other schedules or a measured value, which an option file cannot give.
UNFIT_SCHEDULERS = (
    *("LRScheduler", "LambdaLR", "MultiplicativeLR"),
    *("ReduceLROnPlateau", "SequentialLR", "ChainedScheduler"),
)
#: What BasicSR 1.4.2 builds for its own model classes.
STOCK_OPTIMIZERS = ("Adam",)
STOCK_SCHEDULERS = ("MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR")


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
