"""What must hold between options of the right types: schedules and lengths, datasets and models, sizes and networks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from macr_plugin.options.blocks import RUNS
from macr_plugin.options.datasets import DATASETS
from macr_plugin.options.problems import Place, Problem, unknown

Options = dict[str, Any]

LMDB_BACKENDS = ("lmdb", "uncompressed_lmdb")


def broken_rules(opt: Options) -> Iterator[Problem]:
    """Every rule that the options break.

    Args:
        opt: Options whose types are right.
    """
    train, val = opt.get("train") or {}, opt.get("val") or {}
    is_ours = opt["model_type"] in RUNS
    for phase, dataset in opt["datasets"].items():
        yield from _dataset(dataset, ("datasets", phase), opt["model_type"], bool(train))
    yield from _schedule(train)
    if val.get("keep_best") is not None and val["keep_best"] not in (val.get("metrics") or {}):
        yield Problem(
            ("val", "keep_best"), unknown(val["keep_best"], val.get("metrics") or {}, "metric of val.metrics")
        )
    if is_ours:
        yield from _names_of_sets(opt["datasets"])
        yield from _network_and_crops(opt)
        yield from _adversarial(opt)


def missing_files(opt: Options) -> Iterator[Problem]:
    """Pictures that the plugin's datasets name and that are not there.

    Args:
        opt: Options whose types are right.
    """
    for phase, dataset in opt["datasets"].items():
        for key in ("dataroot", "dataroot_lq", "dataroot_gt", "object_folder"):
            value = dataset.get(key) if dataset.get("type") in DATASETS else None
            if value is not None and not Path(value).expanduser().exists():
                message = f"{value} does not exist: correct the path, or make the data with macr prepare or synthesize"
                yield Problem(("datasets", phase, key), message)


def _dataset(dataset: Options, place: Place, model: str, trains: bool) -> Iterator[Problem]:
    from basicsr.utils.registry import MODEL_REGISTRY

    if dataset.get("uint8") and MODEL_REGISTRY.get(model).__module__.startswith("basicsr."):
        yield Problem(
            (*place, "uint8"), f"{model} takes float pictures only: remove it, or set model_type: MultiScaleDeblurModel"
        )
    if dataset.get("render_on") == "device" and model not in RUNS:
        yield Problem(
            (*place, "render_on"),
            f"device needs model_type: MultiScaleDeblurModel, which renders: {model} does not, set render_on: cpu",
        )
    if dataset["type"] not in DATASETS:
        return
    backend, lq, gt = ((dataset.get(key)) for key in ("io_backend", "dataroot_lq", "dataroot_gt"))
    if (backend or {}).get("type") in LMDB_BACKENDS and lq is not None and lq == gt:
        yield Problem(
            (*place, "dataroot_lq"), f"is the same LMDB as dataroot_gt, {gt}: give the one of blurred pictures"
        )
    if place[1] == "train" and trains:
        for key in ("gt_size", "batch_size_per_gpu", "num_worker_per_gpu"):
            if key in DATASETS[dataset["type"]].model_fields and dataset.get(key) is None:
                yield Problem((*place, key), "is missing: a training needs it, see options/macr_gopro.yml")
    if dataset.get("persistent_workers") and dataset.get("num_worker_per_gpu") == 0:
        yield Problem((*place, "persistent_workers"), "needs num_worker_per_gpu of at least 1: set it to false")
    for key in ("blur_extent", "turn_share", "photon_noise", "read_noise", "jpeg_quality"):
        ends = dataset.get(key)
        if ends and ends[0] > ends[1]:
            yield Problem((*place, key), f"is {ends}: write the smallest first")


def _names_of_sets(datasets: Options) -> Iterator[Problem]:
    """Pictures, curves and best figures of a validation or test set are kept under its name."""
    first: dict[str, str] = {}
    for phase, dataset in datasets.items():
        name = str(dataset.get("name"))
        if phase != "train" and first.setdefault(name, phase) != phase:
            yield Problem(("datasets", phase, "name"), f"{name} is that of datasets.{first[name]} too: give it another")


def _schedule(train: Options) -> Iterator[Problem]:
    scheduler, total = train.get("scheduler"), train.get("total_iter")
    if not isinstance(scheduler, dict) or not _is_number(total):
        return
    place = ("train", "scheduler")
    if scheduler.get("type") == "CosineAnnealingRestartLR":
        periods, weights = scheduler.get("periods"), scheduler.get("restart_weights", (1,))
        if not _are_numbers(periods) or not periods:
            yield Problem((*place, "periods"), f"is {periods!r}: it must be a list of iterations such as [1000]")
        elif any(period <= 0 for period in periods):
            yield Problem((*place, "periods"), f"is {periods}: each period lasts at least 1 iteration")
        elif sum(periods) < total:
            yield Problem(
                (*place, "periods"),
                f"add up to {sum(periods)}, fewer than train.total_iter {total}: lengthen the last period",
            )
        elif not isinstance(weights, (list, tuple)) or len(weights) != len(periods):
            yield Problem(
                (*place, "restart_weights"), f"is {weights!r}: give one for each of the {len(periods)} periods"
            )
    elif scheduler.get("type") in ("MultiStepLR", "MultiStepRestartLR"):
        milestones = scheduler.get("milestones")
        if not _are_numbers(milestones):
            yield Problem((*place, "milestones"), f"is {milestones!r}: it must be a list of iterations such as [1000]")


def _network_and_crops(opt: Options) -> Iterator[Problem]:
    train, network = opt.get("train") or {}, opt["network_g"]
    scales, weights = _argument(network, "num_scales"), train.get("scale_weights")
    if weights is not None and not any(weights):
        yield Problem(("train", "scale_weights"), "are all 0: give at least the first, the finest scale, a weight")
    elif weights is not None and scales is not None and len(weights) != scales:
        yield Problem(
            ("train", "scale_weights"),
            f"has {len(weights)} weights and {network['type']} returns {scales} scale(s): "
            "give one for each, finest first",
        )
    size = (opt["datasets"].get("train") or {}).get("gt_size")
    if train and scales is not None and size is not None and size < 2 ** (scales - 1):
        yield Problem(
            ("datasets", "train", "gt_size"),
            f"is {size}: {network['type']} with {scales} scales needs at least {2 ** (scales - 1)}",
        )
    for key in ("optim_g", "optim_d"):
        rate = (train.get(key) or {}).get("lr", 1)
        if not _is_number(rate) or not 0 <= rate < float("inf"):
            yield Problem(("train", key, "lr"), f"is {rate!r}: it must be 0 or more")
    if train and opt["datasets"].get("train") is None:
        yield Problem(("datasets", "train"), "is missing: a training needs pictures")
    if train and opt.get("logger") is None:
        yield Problem(("logger",), "is missing: a training needs print_freq and save_checkpoint_freq")


def _adversarial(opt: Options) -> Iterator[Problem]:
    if opt["model_type"] != "MultiScaleDeblurGANModel" or not opt.get("train"):
        return
    places: tuple[Place, ...] = (("network_d",), ("train", "gan_opt"), ("train", "optim_d"))
    for place in places:
        block: Any = opt
        for key in place:
            block = block.get(key)
        if not block:
            yield Problem(
                place,
                "is missing: MultiScaleDeblurGANModel trains a discriminator: see "
                "options/baselines/deepdeblur_gan_gopro.yml",
            )


def _argument(network: Options, name: str) -> Any:
    """Value of a network's whole-number argument: that of the option file or the default, if it has such a one."""
    from basicsr.utils.registry import ARCH_REGISTRY

    parameter = inspect.signature(ARCH_REGISTRY.get(network["type"])).parameters.get(name)
    value = network.get(name, parameter.default) if parameter else None
    return value if isinstance(value, int) and value > 0 else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(_is_number(value) for value in values)
