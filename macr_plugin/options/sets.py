"""Whether the weights and pictures that an option file names are there, can be paired, and fill one training step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError
from macr_plugin.options.datasets import DATASETS
from macr_plugin.options.problems import Place, Problem
from macr_plugin.options.required import is_of_basicsr
from macr_plugin.weights.shipped import shipped_names

Options = dict[str, Any]


def missing_weights(opt: Options, may_resume: bool) -> Iterator[Problem]:
    """Files of weights and states that are not there.

    Args:
        opt: Options whose types are right.
        may_resume: Whether a state that the options do not name may be found, which has weights of its own.
    """
    path = opt.get("path") or {}
    resume = path.get("resume_state")
    if isinstance(resume, str) and not _is_file(resume):
        yield Problem(("path", "resume_state"), f"{resume} is no file: give a .state file that exists, or none")
    for key, value in path.items():
        is_read = str(key).startswith("pretrain_network") and isinstance(value, str) and not (resume or may_resume)
        if is_read and value not in shipped_names() and not _is_file(value):
            names = " or ".join(["a .pth, .pt or .safetensors file that exists", *shipped_names()])
            yield Problem(("path", key), f"{value} is no file: give {names}")


def _is_file(name: str) -> bool:
    """Whether BasicSR, which expands ``~``, finds a file."""
    return Path(name).expanduser().is_file()


def unusable_sets(opt: Options) -> Iterator[Problem]:
    """What is wrong with the data of the plugin's datasets, and which files of BasicSR's are not there.

    Args:
        opt: Options whose types are right.
    """
    from basicsr.utils.registry import DATASET_REGISTRY

    for phase, dataset in opt["datasets"].items():
        place: Place = ("datasets", phase)
        is_ours = dataset.get("type") in DATASETS
        missing = []
        if is_ours or is_of_basicsr(DATASET_REGISTRY, dataset.get("type")):
            missing = list(_missing_files(dataset, place))
        yield from missing
        if is_ours and not missing:
            yield from _unreadable(dataset, place, bool(opt.get("train")))


def paths_of_set(dataset: Options) -> list[str]:
    """Keys of a dataset's options that name folders, LMDBs and lists of files.

    Args:
        dataset: Options of one of the plugin's or BasicSR's classes.
    """
    return [key for key in dataset if str(key).startswith(("dataroot", "meta_info")) or key == "object_folder"]


def _missing_files(dataset: Options, place: Place) -> Iterator[Problem]:
    if (dataset.get("io_backend") or {}).get("type") == "memcached":
        return
    for key in paths_of_set(dataset):
        value = dataset[key]
        if value is not None and not Path(value).expanduser().exists():
            message = f"{value} does not exist: correct the path, or make the data with macr prepare or synthesize"
            yield Problem((*place, key), message)


def _unreadable(dataset: Options, place: Place, trains: bool) -> Iterator[Problem]:
    from basicsr.utils.registry import DATASET_REGISTRY

    phase = str(place[1]).split("_")[0]
    try:
        size = len(DATASET_REGISTRY.get(dataset["type"])({**dataset, "phase": phase}))
    except InputError as error:
        # The dataset names the key where it is one of an option.
        yield Problem(place, str(error))
        return
    batch, processes = dataset.get("batch_size_per_gpu"), int(os.environ.get("WORLD_SIZE", 1))
    ratio = dataset.get("dataset_enlarge_ratio", 1)
    if phase == "train" and trains and batch is not None and size * ratio < batch * processes:
        yield Problem(
            (*place, "batch_size_per_gpu"),
            f"is {batch}: {size} samples x dataset_enlarge_ratio {ratio} do not fill one step of {batch} x {processes} "
            "process(es): lower it, or raise dataset_enlarge_ratio",
        )
