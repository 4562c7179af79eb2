"""What no signature tells: networks, losses, optimizers and schedules are built once, small or without memory."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from macr_plugin.errors import InputError
from macr_plugin.options.optimization import optimizers, schedulers
from macr_plugin.options.problems import Place, Problem

Options = dict[str, Any]

#: Losses of BasicSR that load no weights when they are built.
LOSSES_WITHOUT_WEIGHTS = ("basicsr.losses.basic_loss", "basicsr.losses.gan_loss", "macr_plugin.")
LOSSES_WITH_WEIGHTS = ("PerceptualLoss",)
#: Side of a picture that every loss can take.
LARGE = 512


def refused_parts(opt: Options) -> Iterator[Problem]:
    """Every network, loss, optimizer and schedule that cannot be built with its arguments.

    Args:
        opt: Options of the plugin's model classes or BasicSR's, whose names and types are right.
    """
    train = opt.get("train") or {}
    for key, block in opt.items():
        if key.startswith("network_") and block is not None:
            yield from _tried((key,), block, build_network)
    for key, block in train.items():
        if key.endswith("_opt") and block:
            yield from _tried(("train", key), block, _build_loss)
    for key in ("optim_g", "optim_d"):
        if train.get(key) is not None:
            found = list(_tried(("train", key), train[key], _build_optimizer))
            yield from found
            if not found and train.get("scheduler") is not None:
                # Every optimizer follows the one schedule.
                try_schedule = functools.partial(
                    _try_schedule, _build_optimizer(train[key]), train.get("total_iter") or 1
                )
                yield from _tried(("train", "scheduler"), train["scheduler"], try_schedule)


def refused_crops(opt: Options) -> Iterator[Problem]:
    """A size of the crops that the network or the loss cannot take.

    Args:
        opt: As :func:`refused_parts`, which found nothing.
    """
    train, network = opt.get("train") or {}, opt["network_g"]
    size = (opt["datasets"].get("train") or {}).get("gt_size")
    if not train or size is None:
        return
    place: Place = ("datasets", "train", "gt_size")
    built = build_network(network)
    minimum, scales = getattr(built, "minimum_size", 1), getattr(built, "num_scales", 1)
    if isinstance(minimum, int) and size < minimum:
        with_scales = f" with {scales} scales" if scales > 1 else ""
        yield Problem(place, f"is {size}: {network['type']}{with_scales} needs at least {minimum}")
        return
    loss = train.get("pixel_opt")
    weights = train.get("scale_weights") or [1] * scales
    coarsest = max((scale for scale, weight in enumerate(weights) if weight), default=0)
    refusal = _refusal_of_size(loss, max(1, size // 2**coarsest)) if loss is not None else None
    if loss is not None and refusal:
        yield Problem(place, f"is {size}, {size // 2**coarsest} at scale {coarsest + 1}: {loss['type']}: {refusal}")


def build_network(block: Options) -> Any:
    """Build one of the plugin's networks without memory for its weights; None for one of somebody else.

    Args:
        block: ``type`` and the arguments.
    """
    import torch
    from basicsr.utils.registry import ARCH_REGISTRY

    network = ARCH_REGISTRY.get(block["type"])
    takes_files = "checkpoint" in inspect.signature(network).parameters
    if takes_files or not network.__module__.startswith("macr_plugin.archs."):
        return None
    with torch.device("meta"):
        return network(**_arguments(block))


def _build_loss(block: Options) -> Any:
    from basicsr.utils.registry import LOSS_REGISTRY

    loss = LOSS_REGISTRY.get(block["type"])
    is_light = loss.__module__.startswith(LOSSES_WITHOUT_WEIGHTS) and loss.__name__ not in LOSSES_WITH_WEIGHTS
    return loss(**_arguments(block)) if is_light else None


def _refusal_of_size(block: Options, size: int) -> str | None:
    """What a loss of the plugin says to pictures of a size."""
    import torch

    loss = _build_loss(block)
    if loss is None or not type(loss).__module__.startswith("macr_plugin.losses."):
        return None
    # They refuse what is too small.
    side = min(size, LARGE)
    picture = torch.zeros(1, 3, side, side)
    try:
        loss(picture, picture)
    except InputError as error:
        return str(error)
    # Labels, not pictures.
    except (TypeError, RuntimeError, ValueError):
        return None
    return None


def _build_optimizer(block: Options) -> Any:
    import torch

    return optimizers()[block["type"]]([torch.nn.Parameter(torch.zeros(1))], **_arguments(block))


def _try_schedule(optimizer: Any, steps: int, block: Options) -> None:
    scheduler = schedulers()[block["type"]](optimizer, **_arguments(block))
    with warnings.catch_warnings():
        # There is nothing that the optimizer could step.
        warnings.simplefilter("ignore")
        for _ in range(min(2, int(steps) - 1)):
            scheduler.step()


def _arguments(block: Options) -> Options:
    return {key: value for key, value in block.items() if key != "type"}


def _tried(place: Place, block: Options, build: Callable[[Options], Any]) -> Iterator[Problem]:
    try:
        build(block)
    # Classes say in their own ways what they do not take.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        yield Problem(place, f"{block['type']} refuses these options: {reason}")
