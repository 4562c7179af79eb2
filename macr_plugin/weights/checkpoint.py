"""The one loader of weights: BasicSR's files and plain state dicts, as ``.pth`` or ``.safetensors``."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from macr_plugin.errors import InputError
from macr_plugin.weights.shipped import find_shipped

#: Where the files of the usual projects keep the weights, in order of preference.
PARAM_KEYS = ("params_ema", "params", "state_dict")
#: Where a file records the network: an entry of a ``.pth`` file, a JSON text in the metadata of a ``.safetensors``.
NETWORK_KEY = "network_g"


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        state: The weights by name.
        network: ``type`` and options of the network, as in an option file, if the file records them.
        source: The file.
    """

    state: dict[str, Tensor]
    network: dict[str, Any] | None
    source: str


def read_checkpoint(source: str | Path, param_key: str | None = None) -> Checkpoint:
    """Read weights, without running code that a file may hold.

    Args:
        source: A ``.pth``, ``.pt`` or ``.safetensors`` file, or the name of shipped weights.
        param_key: Which weights of the file; by default the first of ``params_ema``, ``params`` and ``state_dict``
            that is there, else the file is taken for a state dict.

    Raises:
        InputError: If the file cannot be read, is damaged, holds code, or lacks the key.
    """
    path = find_shipped(str(source)) or Path(source)
    try:
        content, network = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}: give an existing .pth file") from error
    if param_key is not None and param_key not in content:
        raise InputError(f"weights {path} have no {param_key}: choose one of {', '.join(map(str, content))}")
    keys = [param_key] if param_key is not None else [key for key in PARAM_KEYS if key in content]
    state = content[keys[0]] if keys else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"weights {path} hold no state dict: give the file of a network, such as net_g_latest.pth")
    # DataParallel leaves its prefix in files saved without care.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return Checkpoint(state, network, str(path))


def _read_pickle(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"weights {path} are damaged or hold more than tensors: save them again") from error
    if not isinstance(content, dict):
        raise InputError(f"weights {path} hold no state dict: give the file of a network, such as net_g_latest.pth")
    return content, content.pop(NETWORK_KEY, None)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"weights {path} are damaged ({error}): save them again") from error
    return state, json.loads(metadata[NETWORK_KEY]) if NETWORK_KEY in metadata else None


def load_weights(network: nn.Module, source: str | Path, param_key: str | None = None) -> None:
    """Load the weights of a checkpoint; every one of them must fit.

    Args:
        network: Gets the weights.
        source: As for :func:`read_checkpoint`.
        param_key: Likewise.

    Raises:
        InputError: If the file cannot be read or does not fit.
    """
    load_state(network, read_checkpoint(source, param_key))


def load_state(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Load the weights of a checkpoint that was read already.

    Args:
        network: Gets the weights.
        checkpoint: Every one of its weights must fit.

    Raises:
        InputError: If one does not.
    """
    try:
        network.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights {checkpoint.source} do not fit {type(network).__name__}: {reason}: check its options"
        ) from error
