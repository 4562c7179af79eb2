"""Checks an option file before anything is built, since BasicSR ignores keys that it does not know."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from macr_plugin.errors import InputError

Options = dict[str, Any]

NUMBER_AS_TEXT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)

DATASET_KEYS = {
    *("name", "type", "phase", "scale", "dataroot_gt", "io_backend", "gt_size", "use_hflip", "use_rot", "uint8"),
    *("cache", "num_worker_per_gpu", "batch_size_per_gpu", "dataset_enlarge_ratio", "prefetch_mode"),
    *("num_prefetch_queue", "pin_memory", "persistent_workers"),
}
#: Keys that BasicSR or the plugin read below each block, for runs of ``MultiScaleDeblurModel``. Blocks that a class
#: takes as arguments (networks, losses, optimizers, schedulers, metrics) are checked against that class instead.
KNOWN_KEYS = {
    "": {
        *("name", "model_type", "scale", "num_gpu", "manual_seed", "datasets", "path", "train", "val", "logger"),
        *("dist_params", "find_unused_parameters"),
        # Set by BasicSR while it parses.
        *("dist", "rank", "world_size", "auto_resume", "is_train", "root_path"),
    },
    "train": {
        *("total_iter", "warmup_iter", "ema_decay", "optim_g", "scheduler", "pixel_opt", "perceptual_opt"),
        *("scale_weights", "grad_clip_norm", "acceleration", "on_nonfinite"),
    },
    "train.acceleration": {"precision", "channels_last", "compile", "cuda_graph"},
    "val": {"val_freq", "save_img", "suffix", "metrics", "pbar", "comparison_frames", "keep_best"},
    "logger": {"print_freq", "save_checkpoint_freq", "keep_last", "use_tb_logger", "wandb"},
    "DeblurPairDataset": DATASET_KEYS | {"dataroot", "dataroot_lq", "blur", "num_frames"},
    "SyntheticMotionBlurDataset": {
        *DATASET_KEYS,
        *("blur_extent", "blur_median", "realistic", "sharp_share", "averaging", "depth", "turn_share", "zoom"),
        *("object_share", "object_folder", "photon_noise", "read_noise", "jpeg_share", "jpeg_quality", "render_on"),
    },
    "LinearMotionPatchDataset": (DATASET_KEYS - {"gt_size", "use_hflip", "use_rot"})
    | {"averaging", "noise", "patches_per_photo"},
}
#: The same for each of the plugin's model classes.
KNOWN_KEYS_OF_MODEL = {
    "MultiScaleDeblurModel": KNOWN_KEYS,
    "MotionClassifierModel": {**KNOWN_KEYS, "train": KNOWN_KEYS["train"] - {"scale_weights", "perceptual_opt"}},
    "MultiScaleDeblurGANModel": {
        **KNOWN_KEYS,
        "train": KNOWN_KEYS["train"] | {"gan_opt", "optim_d", "net_d_iters", "net_d_init_iters"},
    },
}


def check_options(opt: Options) -> None:
    """Check parsed BasicSR options as far as that is possible without building anything.

    Types must be registered, arguments of networks and losses must be taken by their classes, numbers must be numbers,
    and a cosine schedule must cover the training. For the plugin's own model classes unknown keys are refused
    everywhere.

    Args:
        opt: What BasicSR's ``parse_options`` returned.

    Raises:
        InputError: Naming the first key at fault, with the nearest right one.
    """
    _check_types_and_arguments(opt)
    _check_uint8(opt)
    if opt["model_type"] in KNOWN_KEYS_OF_MODEL:
        _check_known_keys(opt, KNOWN_KEYS_OF_MODEL[opt["model_type"]])
    else:
        _check_rendering(opt)
    _check_discriminator(opt)
    _check_numbers(opt.get("train") or {}, "train")
    _check_schedule(opt.get("train") or {})


def check_keys(keys: Iterable[Any], known: Collection[str], prefix: str = "") -> None:
    """Refuse keys that nothing reads.

    Args:
        keys: Keys of a block of an option file.
        known: Those that are read.
        prefix: Where the block stands, such as ``datasets.train.``.

    Raises:
        InputError: Naming the first unknown key, with the nearest right one.
    """
    for key in keys:
        _require(key, known, f"{prefix}{key}", "key")


def check_network(network: Options, key: str) -> None:
    """Check that a network is registered and that its class takes the arguments given.

    Args:
        network: ``type`` and the arguments.
        key: Where the block stands, such as ``network_g``.

    Raises:
        InputError: Naming the key at fault, with the nearest right one.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    _check_arguments(network, key, ARCH_REGISTRY, "network")


def _check_types_and_arguments(opt: Options) -> None:
    from basicsr.utils import registry

    _require(opt["model_type"], _names(registry.MODEL_REGISTRY), "model_type", "model")
    for phase, dataset in opt["datasets"].items():
        _require(dataset.get("type"), _names(registry.DATASET_REGISTRY), f"datasets.{phase}.type", "dataset")
    for key, block in _blocks(opt, "network_"):
        _check_arguments(block, key, registry.ARCH_REGISTRY, "network")
    train = opt.get("train") or {}
    for key, block in _blocks(train, "", suffix="_opt"):
        _check_arguments(block, f"train.{key}", registry.LOSS_REGISTRY, "loss")
    val = opt.get("val") or {}
    metrics = val.get("metrics") or {}
    for name, metric in metrics.items():
        _require(metric.get("type"), _names(registry.METRIC_REGISTRY), f"val.metrics.{name}.type", "metric")
    if val.get("keep_best") is not None:
        _require(val["keep_best"], metrics, "val.keep_best", "metric of val.metrics")


def _check_uint8(opt: Options) -> None:
    from basicsr.utils.registry import MODEL_REGISTRY

    converts = not MODEL_REGISTRY.get(opt["model_type"]).__module__.startswith("basicsr.")
    for phase, dataset in opt["datasets"].items():
        if dataset.get("uint8") and not converts:
            raise InputError(
                f"datasets.{phase}.uint8: {opt['model_type']} takes float pictures only: remove it, or set "
                "model_type: MultiScaleDeblurModel"
            )


def _blocks(opt: Options, prefix: str, suffix: str = "") -> Iterator[tuple[str, Options]]:
    """The sub-dictionaries whose key has this prefix and suffix."""
    for key, value in opt.items():
        if key.startswith(prefix) and key.endswith(suffix) and isinstance(value, dict):
            yield key, value


def _check_arguments(block: Options, key: str, registry: Any, kind: str) -> None:
    """Check a block that is a ``type`` and the arguments of the class registered under it."""
    _require(block.get("type"), _names(registry), f"{key}.type", kind)
    parameters = inspect.signature(registry.get(block["type"])).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in block:
        if name != "type":
            _require(name, parameters, f"{key}.{name}", f"option of {block['type']}")


def _check_known_keys(opt: Options, known: Mapping[str, Collection[str]]) -> None:
    # "path" is left out: BasicSR takes any key there for a folder to make.
    check_keys((key for key in opt if not key.startswith("network_")), known[""], "")
    for block in ("train", "val", "logger"):
        check_keys(opt.get(block) or {}, known[block], f"{block}.")
    check_keys((opt.get("train") or {}).get("acceleration") or {}, known["train.acceleration"], "train.acceleration.")
    for phase, dataset in opt["datasets"].items():
        if dataset["type"] in known:
            check_keys(dataset, known[dataset["type"]], f"datasets.{phase}.")


def _check_discriminator(opt: Options) -> None:
    if opt["model_type"] != "MultiScaleDeblurGANModel" or not opt.get("train"):
        return
    for key, given in {
        "network_d": opt.get("network_d"),
        "train.gan_opt": opt["train"].get("gan_opt"),
        "train.optim_d": opt["train"].get("optim_d"),
    }.items():
        if not given:
            raise InputError(
                f"{key} is missing: MultiScaleDeblurGANModel trains a discriminator: see "
                "options/baselines/deepdeblur_gan_gopro.yml"
            )


def _check_rendering(opt: Options) -> None:
    for phase, dataset in opt["datasets"].items():
        if dataset.get("render_on") == "device":
            raise InputError(
                f"datasets.{phase}.render_on: device needs model_type: MultiScaleDeblurModel, which renders: "
                f"{opt['model_type']} does not, set render_on: cpu"
            )


def _names(registry: Any) -> set[str]:
    """Every name that a registry answers to: it also tries a name with the suffix of BasicSR's own classes."""
    return {*registry.keys(), *(name.removesuffix("_basicsr") for name in registry.keys())}  # noqa: SIM118


def _require(name: Any, known: Collection[str], key: str, kind: str) -> None:
    """Refuse a name that is not among the known ones."""
    if name in known:
        return
    if name is None:
        raise InputError(f"{key} is missing: it names the {kind}, one of {', '.join(sorted(known))}")
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}"
    raise InputError(f"{key}: unknown {kind} {name!r}: {hint}")


def _check_numbers(block: Options, key: str) -> None:
    for name, value in block.items():
        if isinstance(value, dict):
            _check_numbers(value, f"{key}.{name}")
        elif isinstance(value, str) and NUMBER_AS_TEXT.fullmatch(value):
            raise InputError(f"{key}.{name}: YAML reads {value} as text: write !!float {value}")


def _check_schedule(train: Options) -> None:
    scheduler = train.get("scheduler") or {}
    if scheduler.get("type") == "CosineAnnealingRestartLR" and sum(scheduler["periods"]) < train["total_iter"]:
        raise InputError(
            f"train.scheduler.periods add up to {sum(scheduler['periods'])}, fewer than train.total_iter "
            f"{train['total_iter']}: lengthen the last period"
        )
