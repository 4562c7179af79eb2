"""What must hold between options of the right types: schedules and lengths, datasets and models, sizes and networks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from macr_plugin.options.blocks import RUNS
from macr_plugin.options.datasets import DATASETS
from macr_plugin.options.problems import Place, Problem, unknown
from macr_plugin.options.required import is_of_basicsr
from macr_plugin.options.trials import refused_crops, refused_parts

Options = dict[str, Any]

LMDB_BACKENDS = ("lmdb", "uncompressed_lmdb")
#: Schedules of torch that end, or stay at a rate of 0, after so many steps, with the default.
LENGTHS: dict[str, tuple[str, Any]] = {"OneCycleLR": ("total_steps", None), "PolynomialLR": ("total_iters", 5)}


def broken_rules(opt: Options, is_spelled_right: bool = True) -> Iterator[Problem]:
    """Every rule that the options break.

    Args:
        opt: Options whose types are right.
        is_spelled_right: Whether every key is known, so that classes can be built with their arguments.
    """
    from basicsr.utils.registry import MODEL_REGISTRY

    train, val = opt.get("train") or {}, opt.get("val") or {}
    is_ours = opt["model_type"] in RUNS
    is_known = is_ours or is_of_basicsr(MODEL_REGISTRY, opt["model_type"])
    for phase, dataset in opt["datasets"].items():
        yield from _dataset(dataset, ("datasets", phase), opt["model_type"], bool(train))
    schedule = [*_schedule(train), *(_rates(train) if is_known else ())]
    yield from schedule
    yield from _names_of_files(opt, is_ours)
    yield from _metrics(val.get("metrics") or {})
    if val.get("keep_best") is not None and val["keep_best"] not in (val.get("metrics") or {}):
        yield Problem(
            ("val", "keep_best"), unknown(val["keep_best"], val.get("metrics") or {}, "metric of val.metrics")
        )
    if is_ours:
        yield from _names_of_sets(opt["datasets"])
        yield from _network_and_crops(opt)
        yield from _adversarial(opt)
    refused = list(refused_parts(opt)) if is_known and is_spelled_right and not schedule else []
    yield from refused
    if is_ours and is_spelled_right and not refused:
        yield from refused_crops(opt)


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
    if dataset.get("persistent_workers") and dataset.get("num_worker_per_gpu") == 0:
        yield Problem((*place, "persistent_workers"), "needs num_worker_per_gpu of at least 1: set it to false")
    if dataset["type"] not in DATASETS:
        return
    backend, lq, gt = ((dataset.get(key)) for key in ("io_backend", "dataroot_lq", "dataroot_gt"))
    if lq is not None and gt is not None and _real(lq) == _real(gt):
        kind = "LMDB" if (backend or {}).get("type") in LMDB_BACKENDS else "folder"
        yield Problem(
            (*place, "dataroot_lq"), f"is the same {kind} as dataroot_gt, {gt}: give the one of blurred pictures"
        )
    if place[1] == "train" and trains:
        for key in ("gt_size", "batch_size_per_gpu", "num_worker_per_gpu"):
            if key in DATASETS[dataset["type"]].model_fields and dataset.get(key) is None:
                yield Problem((*place, key), "is missing: a training needs it, see options/macr_gopro.yml")
    if dataset.get("on_bad_sample") == "skip" and place[1] != "train":
        yield Problem((*place, "on_bad_sample"), "is skip: a measurement needs every sample, remove it")
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
        elif not _are_numbers(list(weights) if isinstance(weights, tuple) else weights) or len(weights) != len(periods):
            yield Problem(
                (*place, "restart_weights"), f"is {weights!r}: give one for each of the {len(periods)} periods"
            )
    elif scheduler.get("type") in LENGTHS:
        key, default = LENGTHS[scheduler["type"]]
        length = scheduler.get(key, default)
        if _is_number(length) and length < total:
            yield Problem((*place, key), f"is {length}, fewer than train.total_iter {total}: make it as long")
    elif scheduler.get("type") in ("MultiStepLR", "MultiStepRestartLR"):
        milestones = scheduler.get("milestones")
        if not _are_numbers(milestones) or not all(step >= 1 and step == int(step) for step in milestones):
            yield Problem((*place, "milestones"), f"is {milestones!r}: it must be a list of iterations such as [1000]")
        for key in ("restarts", "restart_weights"):
            if key in scheduler and not _are_numbers(scheduler[key]):
                yield Problem((*place, key), f"is {scheduler[key]!r}: it must be a list of numbers")
        gamma = scheduler.get("gamma", 0.1)
        if not _is_number(gamma) or not 0 <= gamma < float("inf"):
            yield Problem((*place, "gamma"), f"is {gamma!r}: it must be a factor of the rate, 0 or more")


def _rates(train: Options) -> Iterator[Problem]:
    for key in ("optim_g", "optim_d"):
        rate = (train.get(key) or {}).get("lr", 1)
        if not _is_number(rate) or not 0 <= rate < float("inf"):
            yield Problem(("train", key, "lr"), f"is {rate!r}: it must be 0 or more")


def _network_and_crops(opt: Options) -> Iterator[Problem]:
    train, network = opt.get("train") or {}, opt["network_g"]
    scales, weights = _scales(network), train.get("scale_weights")
    if weights is not None and not any(weights):
        yield Problem(("train", "scale_weights"), "are all 0: give at least the first, the finest scale, a weight")
    elif weights is not None and scales is not None and len(weights) != scales:
        yield Problem(
            ("train", "scale_weights"),
            f"has {len(weights)} weights and {network['type']} returns {scales} scale(s): "
            "give one for each, finest first",
        )
    if train and train.get("pixel_opt") is None and train.get("perceptual_opt") is None:
        yield Problem(("train", "pixel_opt"), "is missing: a training needs a loss, this or perceptual_opt")
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
    for key, value in (opt["train"].get("acceleration") or {}).items():
        if (key in ("compile", "cuda_graph") and value is True) or value == "fp16":
            yield Problem(
                ("train", "acceleration", key),
                f"is {str(value).lower()}: MultiScaleDeblurGANModel does not scale its loss, compile or capture",
            )


def _scales(network: Options) -> int | None:
    """How many pictures a network returns, as far as its class tells."""
    from basicsr.utils.registry import ARCH_REGISTRY

    kind = ARCH_REGISTRY.get(network["type"])
    parameter = inspect.signature(kind).parameters.get("num_scales")
    if parameter is None:
        return 1 if kind.__module__.startswith("basicsr.") else None
    value = network.get("num_scales", parameter.default)
    return value if isinstance(value, int) and value > 0 else None


def _names_of_files(opt: Options, is_ours: bool) -> Iterator[Problem]:
    """Names that become parts of paths must not lead out of the folders of the run."""
    for phase, dataset in opt["datasets"].items():
        name = dataset.get("name")
        if isinstance(name, str) and not is_ours and (Path(name).is_absolute() or ".." in Path(name).parts):
            yield Problem(("datasets", phase, "name"), f"is {name!r}: it must stay in the folder of the run")
    suffix = (opt.get("val") or {}).get("suffix")
    if isinstance(suffix, str) and ("/" in suffix or "\\" in suffix or "\0" in suffix):
        yield Problem(("val", "suffix"), f"is {suffix!r}: it is a part of file names, without /")


def _metrics(metrics: Options) -> Iterator[Problem]:
    """Arguments of the metrics whose functions do not tell their types."""
    for name, metric in metrics.items():
        border, luma = metric.get("crop_border", 0), metric.get("test_y_channel", False)
        place: Place = ("val", "metrics", name)
        if not isinstance(border, int) or isinstance(border, bool) or border < 0:
            yield Problem((*place, "crop_border"), f"is {border!r}: it must be a whole number of pixels, 0 or more")
        if not isinstance(luma, (bool, int)):
            yield Problem((*place, "test_y_channel"), f"is {luma!r}: it must be true or false")
        if metric.get("input_order", "HWC") not in ("HWC", "CHW"):
            yield Problem((*place, "input_order"), f"is {metric['input_order']!r}: it must be HWC or CHW")
        if metric.get("better", "higher") not in ("higher", "lower"):
            yield Problem((*place, "better"), f"is {metric['better']!r}: it must be higher or lower")


def _real(path: str) -> Path:
    return Path(path).expanduser().resolve()


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(_is_number(value) for value in values)
