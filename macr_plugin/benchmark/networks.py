"""Builds the networks of a benchmark."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from macr_plugin.benchmark.options import Entry
from macr_plugin.errors import InputError
from macr_plugin.inference.restorer import Restorer

#: Where the files of the usual projects keep the weights, in order of preference.
PARAM_KEYS = ("params_ema", "params", "state_dict")


def build_restorer(entry: Entry, weights: Path | None = None) -> Restorer:
    """Build an entry's network, without gradients.

    Args:
        entry: The entry; it has a network.
        weights: File to load in place of the entry's own.

    Returns:
        The network in evaluation mode, in float32 on the CPU, padded and tiled as the entry demands.

    Raises:
        InputError: If the network cannot be built or the weights do not fit.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    if entry.network is None:
        raise InputError(f"{entry.label} has no network: give it one, such as network: {{type: MACR}}")
    options = {name: value for name, value in entry.network.items() if name != "type"}
    try:
        network = ARCH_REGISTRY.get(entry.network["type"])(**options)
    except TypeError as error:
        raise InputError(f"{entry.label}: network {entry.network['type']}: {error}") from error
    if weights is not None:
        load_weights(network, weights, entry.param_key)
    return Restorer(network, entry.size_multiple, entry.tile).eval().requires_grad_(False)


def load_weights(network: nn.Module, path: Path, param_key: str | None = None) -> None:
    """Load the weights of a checkpoint, of BasicSR or a plain state dict; every one of them must fit.

    Args:
        network: Gets the weights.
        path: The ``.pth`` file.
        param_key: Which weights of the file; by default the first of ``params_ema``, ``params`` and ``state_dict``
            that is there, else the file is taken for a state dict.

    Raises:
        InputError: If the file cannot be read or does not fit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}: give an existing .pth file") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"weights {path} are damaged or hold more than tensors: save them again") from error
    if param_key is not None and param_key not in content:
        raise InputError(f"weights {path} have no {param_key}: choose one of {', '.join(map(str, content))}")
    keys = [param_key] if param_key is not None else [key for key in PARAM_KEYS if key in content]
    state = content[keys[0]] if keys else content
    # DataParallel leaves its prefix in files saved without care.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"weights {path} do not fit {type(network).__name__}: {reason}: check its options") from error


def describe_inference(entry: Entry) -> str:
    """How an entry restores a frame, for people."""
    parts = ["full" if entry.tile is None else f"tile {entry.tile.size} overlap {entry.tile.overlap}"]
    if entry.tlc:
        parts.append("TLC")
    if entry.size_multiple > 1:
        parts.append(f"padded to {entry.size_multiple}")
    return ", ".join(parts)
