"""Checkpoints: complete or not there, with all that an exact resume needs, and no more of them than wanted."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from macr_plugin.errors import InputError
from macr_plugin.files import whole_file

#: Under this key ``net_g_best.pth`` holds, beside the weights, what they achieved.
BEST_KEY = "best"


def save_atomically(content: Any, path: Path) -> None:
    """Write a checkpoint beside its place, see that it is on disk, then rename it.

    Args:
        content: What ``torch.save`` takes.
        path: Where it shall be.

    Raises:
        InputError: If it cannot be written; what was at ``path`` is still there then.
    """
    with whole_file(path, "free some disk space and resume with --auto_resume") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    # The new name is on disk only once its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of checkpoints that it was writing."""
    for path in folder.glob(".*.unfinished"):
        path.unlink(missing_ok=True)


def remove_older(models: Path, states: Path, keep: int) -> None:
    """Remove all but the newest checkpoints; ``latest`` and ``best`` stay.

    Args:
        models: Folder of the weights.
        states: Folder of the training states.
        keep: How many iterations to keep.
    """
    iterations = sorted(int(path.stem) for path in states.glob("*.state") if path.stem.isdigit())
    for iteration in iterations[:-keep]:
        # The state first: what is left of a pair must not look like one.
        (states / f"{iteration}.state").unlink(missing_ok=True)
        for weights in models.glob(f"net_*_{iteration}.pth"):
            weights.unlink(missing_ok=True)


def random_states() -> dict[str, Any]:
    """Where the random generators of this process stand: Python's, numpy's, torch's and the GPU's."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the random generators of this process where :func:`random_states` found them."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def read_best(path: Path, dataset_name: str, metric: str) -> dict[str, Any]:
    """Read what the weights of ``net_g_best.pth`` achieved.

    Args:
        path: The file; it need not be there.
        dataset_name: Data set that is asked for.
        metric: Name of the metric that is asked for.

    Returns:
        ``val`` and ``iter``; nothing if there is no file, or it was the best by another metric or data set.

    Raises:
        InputError: If the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        record = torch.load(path, map_location="cpu", weights_only=True).get(BEST_KEY, {})
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is damaged (cut short?): delete it, the next validation writes it anew") from error
    if (record.get("dataset"), record.get("metric")) != (dataset_name, metric):
        return {}
    return {"val": record["val"], "iter": record["iter"]}
