"""Keys that BasicSR's programs index in an option file, and without which they end in a KeyError."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from macr_plugin.options.blocks import RUNS
from macr_plugin.options.problems import Place, Problem

Options = dict[str, Any]


def missing_keys(opt: Options, is_train: bool) -> Iterator[Problem]:
    """Keys of the file that are not there or empty; the plugin makes options without some of them itself.

    Args:
        opt: The options, as the file says them.
        is_train: Whether a training reads them.
    """
    for place in itertools.chain([("train",)] if is_train else [], _indexed(opt)):
        block: Any = opt
        for key in place[:-1]:
            block = block.get(key) if isinstance(block, dict) else None
        if block is None or (isinstance(block, dict) and block.get(place[-1]) is None):
            yield Problem(place, "is missing: BasicSR reads it, options/macr_gopro.yml has an example")


def _indexed(opt: Options) -> Iterator[Place]:
    from basicsr.utils.registry import MODEL_REGISTRY

    yield from (("name",), ("num_gpu",), ("path",))
    model, datasets = opt.get("model_type"), opt.get("datasets")
    is_ours = isinstance(model, str) and model in RUNS
    phases = [key for key, value in datasets.items() if isinstance(value, dict)] if isinstance(datasets, dict) else []
    for phase in phases:
        yield ("datasets", phase, "name")
    if isinstance(opt.get("val"), dict) and not is_ours:
        yield ("val", "save_img")
    if not isinstance(opt.get("train"), dict):
        return
    yield from (("logger", "print_freq"), ("logger", "save_checkpoint_freq"), ("train", "total_iter"))
    if "train" in phases:
        yield from (("datasets", "train", "batch_size_per_gpu"), ("datasets", "train", "num_worker_per_gpu"))
    if isinstance(opt.get("val"), dict) and not is_ours:
        yield ("val", "val_freq")
    if is_of_basicsr(MODEL_REGISTRY, model):
        yield from (("network_g",), ("train", "optim_g"), ("train", "scheduler"), ("datasets", "train"))


def is_of_basicsr(registry: Any, name: Any) -> bool:
    """Whether a name of a registry is that of a class of BasicSR itself.

    Args:
        registry: One of BasicSR's registries.
        name: What was written.
    """
    return isinstance(name, str) and name in registry and registry.get(name).__module__.startswith("basicsr.")
