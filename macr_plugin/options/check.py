"""Checks an option file before anything is built, since BasicSR ignores keys that it does not know."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from macr_plugin.errors import InputErrors
from macr_plugin.options.blocks import RUNS, PathOptions, StockRun
from macr_plugin.options.datasets import DATASETS, LoaderOptions, StockDatasetOptions
from macr_plugin.options.optimization import optimizers, schedulers, stock_optimizers, stock_schedulers
from macr_plugin.options.positions import Positions
from macr_plugin.options.problems import (
    NUMBER_AS_TEXT,
    Place,
    Problem,
    number_as_text,
    unknown,
    validate,
)
from macr_plugin.options.required import is_of_basicsr, missing_keys
from macr_plugin.options.rules import broken_rules
from macr_plugin.options.sets import missing_weights, paths_of_set, unusable_sets
from macr_plugin.options.signatures import check_call, names

Options = dict[str, Any]

#: Networks that the plugin's model classes build.
NETWORKS = ("network_g", "network_d")

#: Keys below ``path`` with these words name files and are left alone by BasicSR; of every other it makes a folder.
PATH_WORDS = ("pretrain_network", "strict_load", "param_key", "resume")


def check_option_file(
    opt: Options, path: Path, forced: Sequence[str] = (), is_train: bool = False, may_resume: bool = False
) -> None:
    """Check the option file of a training or test, and that the pictures and weights that it names are there.

    Args:
        opt: What the file says, changed by ``forced``.
        path: The file.
        forced: Dotted keys that the command line changed.
        is_train: Whether a training reads the file, which then needs a block ``train``.
        may_resume: Whether a state that is not in the file may take the place of ``pretrain_network_g``.

    Raises:
        InputErrors: Every mistake, each with its file, line and column.
    """
    problems = list(find_problems(opt))
    named = {problem.place for problem in problems}
    problems += [problem for problem in missing_keys(opt, is_train) if problem.place not in named]
    check_positions(path, problems or [*missing_weights(opt, may_resume), *unusable_sets(opt)], forced)


def check_positions(path: Path, problems: Iterable[Problem], forced: Sequence[str] = ()) -> None:
    """Report the problems of an option file where they stand in it, and keys that are there twice.

    Args:
        path: The file.
        problems: What is wrong.
        forced: Dotted keys that the command line changed.

    Raises:
        InputErrors: Every mistake, each with its file, line and column.
    """
    positions = Positions(path)
    repeated = [f"{path}:{at.line}:{at.column}: {problem}" for at, problem in positions.repeated]
    lines = []
    for problem in problems:
        at = positions.of(problem.place)
        given = [key for key in forced if key == problem.key or problem.key.startswith(f"{key}.")]
        lines.append((at, f"--force_yml: {problem}" if given else f"{path}:{at.line}:{at.column}: {problem}"))
    if lines or repeated:
        raise InputErrors([*repeated, *(line for _, line in sorted(lines))])


def check_options(opt: Options) -> None:
    """Check BasicSR's options as far as that is possible without the file that they come from.

    Args:
        opt: The options, as the file says them.

    Raises:
        InputErrors: Every mistake, each with its dotted key.
    """
    problems = [str(problem) for problem in find_problems(opt)]
    if problems:
        raise InputErrors(problems)


def find_problems(opt: Options) -> Iterator[Problem]:
    """Every mistake in the options: of types and names first, and if there is none of those, of their meaning.

    For the plugin's own model classes every key is checked. For others that is so of the plugin's datasets, and of
    what is certain: registered types, arguments of classes, numbers that YAML takes for text.

    Args:
        opt: The options, as the file says them.
    """
    found = list(_problems_of_blocks(opt))
    yield from found
    if all(problem.is_spelling for problem in found):
        yield from broken_rules(opt, is_spelled_right=not found)


def problems_of_network(network: Options, place: Place) -> Iterator[Problem]:
    """Check that a network is registered and that its class takes the arguments given.

    Args:
        network: ``type`` and the arguments.
        place: Where the block stands.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    yield from _call(network, place, ARCH_REGISTRY, "network", True)


def _problems_of_blocks(opt: Options) -> Iterator[Problem]:
    from basicsr.utils.registry import MODEL_REGISTRY

    model = opt.get("model_type")
    description = RUNS.get(model, StockRun) if isinstance(model, str) else StockRun
    is_ours = description is not StockRun
    described = {key: value for key, value in opt.items() if not (is_ours and str(key).startswith("network_"))}
    found = list(validate(description, described, ()))
    if not isinstance(model, str) or model not in names(MODEL_REGISTRY):
        found = [problem for problem in found if problem.place != ("model_type",)]
        found.append(Problem(("model_type",), unknown(model, names(MODEL_REGISTRY), "model")))
    yield from found
    if not is_ours:
        yield from _near_paths(opt.get("path"))
    named = {problem.place for problem in found}
    for problem in itertools.chain(_problems_of_datasets(opt, is_ours), _problems_of_classes(opt, is_ours)):
        if problem.place not in named:
            named.add(problem.place)
            yield problem
    for problem in _misread_numbers(opt.get("train"), ("train",)):
        if problem.place not in named:
            yield problem


def _near_paths(path: Any) -> Iterator[Problem]:
    for key in path if isinstance(path, dict) else ():
        yield from _known_path(key, path[key])
        near = difflib.get_close_matches(str(key), PathOptions.model_fields, n=1, cutoff=0.8)
        if any(word in str(key) for word in PATH_WORDS):
            continue
        if near:
            yield Problem(("path", key), unknown(key, PathOptions.model_fields, "key"), is_spelling=True)
        elif not isinstance(path[key], str):
            yield Problem(("path", key), f"is {path[key]!r}: BasicSR makes a folder of it, write its name or remove it")


def _known_path(key: Any, value: Any) -> Iterator[Problem]:
    """What BasicSR reads for each network of any name."""
    if str(key).startswith(("pretrain_network", "param_key")) and not isinstance(value, str | None):
        yield Problem(("path", key), f"is {value!r}: it must be text")
    if str(key).startswith("strict_load") and not isinstance(value, bool | int | None):
        yield Problem(("path", key), f"is {value!r}: it must be true or false")


def _problems_of_datasets(opt: Options, is_ours: bool) -> Iterator[Problem]:
    from basicsr.utils.registry import DATASET_REGISTRY

    datasets = opt.get("datasets")
    for phase, dataset in (datasets if isinstance(datasets, dict) else {}).items():
        if not isinstance(dataset, dict):
            continue
        place, known = ("datasets", phase), names(DATASET_REGISTRY)
        kind = dataset.get("type")
        if kind is None:
            yield Problem((*place, "type"), f"is missing: it names the dataset, one of {', '.join(sorted(known))}")
        elif not isinstance(kind, str) or kind not in known:
            yield Problem((*place, "type"), unknown(kind, known, "dataset"))
        else:
            others = StockDatasetOptions if is_of_basicsr(DATASET_REGISTRY, kind) else LoaderOptions
            yield from validate(DATASETS.get(kind, others), dataset, place)
            if others is StockDatasetOptions:
                for key in paths_of_set(dataset):
                    if not isinstance(dataset[key], str | None):
                        yield Problem((*place, key), f"is {dataset[key]!r}: it must be text")
        if (is_ours or opt.get("train")) and str(phase).split("_")[0] not in ("train", "val", "test"):
            yield Problem(place, unknown(phase, ("train", "val", "test"), "phase"))


def _problems_of_classes(opt: Options, is_ours: bool) -> Iterator[Problem]:
    from basicsr.utils import registry

    is_known = is_ours or is_of_basicsr(registry.MODEL_REGISTRY, opt.get("model_type"))
    for key, block in opt.items():
        if is_ours and str(key).startswith("network_") and key not in NETWORKS:
            yield Problem((key,), unknown(key, NETWORKS, "key"), is_spelling=True)
        elif str(key).startswith("network_") and (is_known or isinstance(block, dict)) and block is not None:
            yield from _call(block, (key,), registry.ARCH_REGISTRY, "network", is_ours)
    if is_ours and opt.get("network_g") is None:
        yield Problem(("network_g",), "is missing: it says which network is trained or tested, such as type: MACR")
    train = _mapping(opt.get("train"))
    for key, block in train.items():
        if str(key).endswith("_opt") and (isinstance(block, dict) or (is_known and block)):
            yield from _call(block, ("train", key), registry.LOSS_REGISTRY, "loss", is_ours)
    if is_known:
        yield from _problems_of_optimization(train, is_ours)
    for name, metric in _mapping(_mapping(opt.get("val")).get("metrics")).items():
        yield from _call(metric, ("val", "metrics", name), registry.METRIC_REGISTRY, "metric", is_ours)


def _problems_of_optimization(train: Options, is_ours: bool) -> Iterator[Problem]:
    kinds, schedules = optimizers(), schedulers()
    for key, block in train.items():
        if str(key).startswith("optim_") and block is not None:
            known: Collection[str] = kinds if is_ours else stock_optimizers()
            yield from check_call(block, ("train", key), known, kinds.__getitem__, "optimizer")
    if train.get("scheduler") is not None:
        known = schedules if is_ours else stock_schedulers()
        yield from check_call(train["scheduler"], ("train", "scheduler"), known, schedules.__getitem__, "scheduler")


def _call(block: Any, place: Place, registry: Any, kind: str, is_complete: bool) -> Iterator[Problem]:
    return check_call(block, place, names(registry), registry.get, kind, is_complete)


def _mapping(value: Any) -> Options:
    return value if isinstance(value, dict) else {}


def _misread_numbers(block: Any, place: Place) -> Iterator[Problem]:
    pairs = block.items() if isinstance(block, dict) else enumerate(block) if isinstance(block, list) else ()
    for key, value in pairs:
        if isinstance(value, str) and NUMBER_AS_TEXT.fullmatch(value):
            yield Problem((*place, key), number_as_text(value))
        elif isinstance(value, float) and math.isnan(value):
            yield Problem((*place, key), "is nan: it must be a number")
        yield from _misread_numbers(value, (*place, key))
