"""The one loader of weights: BasicSR's files and plain state dicts, as ``.pth`` or ``.safetensors``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from macr_plugin.errors import InputError
from macr_plugin.filesystem.torch_file import read_torch_file
from macr_plugin.weights.shipped import find_shipped, shipped_names

#: Where the files of the usual projects keep the weights of a network, in order of preference.
PARAM_KEYS = (
    *("params_ema", "params", "state_dict", "model_state_dict", "model", "net_g_ema", "net_g", "netG", "generator"),
    *("network", "net", "weights"),
)
#: What BasicSR asks for where the options say nothing, so that the file of another project need not have it.
BASICSR_KEYS = ("params", "params_ema")
#: What stands before every name in files saved from a wrapped network: data parallel and compiled.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
#: What torch calls the entry of a state dict that is no weight. Files from before a network had one fit it as well.
EXTRA_STATE = "_extra_state"
#: Where a file records the network: an entry of a ``.pth`` file, a JSON text in the metadata of a ``.safetensors``.
NETWORK_KEY = "network_g"


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        state: The weights by name.
        network: ``type`` and options of the network, as in an option file, if the file records them.
        source: The file.
        param_key: The entry of the file that was asked for or stands in for it, if any.
    """

    state: dict[str, Tensor]
    network: dict[str, Any] | None
    source: str
    param_key: str | None = None


def read_checkpoint(source: str | Path, param_key: str | None = None, as_basicsr: bool = False) -> Checkpoint:
    """Read weights, without running code that a file may hold.

    Args:
        source: A ``.pth``, ``.pt`` or ``.safetensors`` file, or the name of shipped weights.
        param_key: Which weights of the file; by default the file itself if it is a state dict, else the first of
            :data:`PARAM_KEYS` that is there, else the only state dict in it.
        as_basicsr: Whether, as in BasicSR, ``params`` stand in for another key that is not there; where neither is, a
            file without BasicSR's own keys is read as if none were asked for.

    Raises:
        InputError: If the file cannot be read, is damaged, holds code, or lacks the key.
    """
    path = Path(source)
    if not path.is_file():
        path = find_shipped(str(source)) or path
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "No such file"
        names = f" or {' or '.join(shipped_names())}" if shipped_names() else ""
        raise InputError(f"weights {path}: {kind}: give an existing .pth, .pt or .safetensors file{names}")
    try:
        _refuse_text(path)
        content, network = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}: give a file that can be read") from error
    if as_basicsr and param_key not in content:
        param_key = "params" if "params" in content else None if param_key in BASICSR_KEYS else param_key
    if param_key is not None and param_key not in content:
        raise InputError(f"weights {path} have no {param_key}: choose one of {_first(content)}")
    state = _find_state(content if param_key is None else content[param_key], path)
    for prefix in WRAPPER_PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return Checkpoint(state, network, str(path), param_key)


def _refuse_text(path: Path) -> None:
    """Refuse what a failed download leaves in place of weights."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        raise InputError(f"weights {path} are damaged: the file is empty: download or save it again")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"version https://git-lfs")):
        raise InputError(f"weights {path} are no weights but a web page or a pointer: download the file itself")


def _is_state(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _find_state(content: Any, path: Path) -> dict[str, Tensor]:
    """Weights of a network in what a file holds, in whatever dictionaries it is wrapped.

    Raises:
        InputError: If there are none, or several and no usual name tells which.
    """
    if _is_state(content):
        return dict(content)
    entries = content if isinstance(content, dict) else {}
    for key in PARAM_KEYS:
        if isinstance(entries.get(key), dict) and entries[key]:
            return _find_state(entries[key], path)
    states = [key for key, value in entries.items() if _is_state(value)]
    if len(states) > 1:
        raise InputError(f"weights {path} hold several networks: choose one of {_first(states)} as param_key")
    if not states:
        raise InputError(f"weights {path} hold no state dict: give the file of a network, such as net_g_latest.pth")
    return dict(entries[states[0]])


def _first(names: Iterable[Any]) -> str:
    """The first few of some names, for a message of one line."""
    names = [str(name) for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _read_pickle(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    damaged = f"weights {path} are damaged or hold more than tensors: save them again"
    try:
        content = read_torch_file(path, damaged)
    except OSError as error:
        raise InputError(damaged) from error
    if not isinstance(content, dict):
        raise InputError(f"weights {path} hold no state dict: give the file of a network, such as net_g_latest.pth")
    recorded = content.get(NETWORK_KEY)
    network = content.pop(NETWORK_KEY) if isinstance(recorded, dict) and "type" in recorded else None
    return content, network


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = json.loads(metadata[NETWORK_KEY]) if NETWORK_KEY in metadata else None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"weights {path} are damaged ({error}): save them again") from error
    return state, network


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


def load_state(network: nn.Module, checkpoint: Checkpoint, strict: bool = True) -> str:
    """Load the weights of a checkpoint that was read already.

    Args:
        network: Gets the weights.
        checkpoint: The weights; prefixes of their names do not count.
        strict: Whether every weight must fit in name and shape; else those that fit are loaded.

    Returns:
        In what the weights differ, as :func:`describe_mismatch` says it; empty if in nothing.

    Raises:
        InputError: If ``strict`` and one does not fit.
    """
    own = _weights(network.state_dict())
    named = _rename(checkpoint.state, list(own))
    resized = [] if strict else [name for name in named if name in own and own[name].shape != named[name].shape]
    state = {name: value for name, value in named.items() if name not in resized}
    # Torch decides: modules may take older names and shapes than they have today.
    try:
        faults = network.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        reason = describe_mismatch(own, state) or " ".join(str(error).split())[:200]
        raise InputError(
            f"weights {checkpoint.source} do not fit {type(network).__name__}: {reason}: check its options"
        ) from error
    return describe_mismatch(own, named) if resized or any(faults) else ""


def changed_options(checkpoint: Checkpoint, options: Mapping[str, Any], network_class: type[nn.Module]) -> str:
    """Say in one line which options differ from those that a checkpoint records.

    Args:
        checkpoint: What was read from the file.
        options: ``type`` and options of a network.
        network_class: Class of the network; an option that is left out has the default of its constructor.

    Returns:
        Such as ``skip_connections: True, now left out``; empty if nothing differs or nothing is recorded.
    """
    arguments = inspect.signature(network_class).parameters.values()
    defaults = {argument.name: argument.default for argument in arguments if argument.default is not argument.empty}
    now = plain_options({**defaults, **options})
    recorded = plain_options({**defaults, **(checkpoint.network or options)})
    names = [name for name in {**recorded, **now} if recorded.get(name) != now.get(name)]
    return "; ".join(f"{name}: {recorded.get(name, 'left out')}, now {now.get(name, 'left out')}" for name in names)


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a checkpoint records them: what JSON has, everything else as text, so that reading runs no code."""
    return json.loads(json.dumps(options, default=str))


def describe_mismatch(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Say in one line in what the weights of a file differ from those of a network.

    Args:
        own: Weights of the network by name, of any shape and value.
        state: Weights of the file by name.

    Returns:
        How many names are missing or unknown, with the first of them, or the first size that differs; empty if none.
    """
    own, state = _weights(own), _weights(state)
    missing, unknown = [name for name in own if name not in state], [name for name in state if name not in own]
    parts = [
        f"{len(names)} {kind}, first {names[0]}"
        for names, kind in ((missing, "missing in the file"), (unknown, "unknown to the network"))
        if names
    ]
    resized = [name for name in own if name in state and own[name].shape != state[name].shape]
    if resized:
        shapes = tuple(state[resized[0]].shape), tuple(own[resized[0]].shape)
        parts.append(f"{resized[0]} has the shape {shapes[0]} in the file and {shapes[1]} in the network")
    return "; ".join(parts)


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what is no weight."""
    return {name: value for name, value in state.items() if not name.endswith(EXTRA_STATE)}


def _rename(state: Mapping[str, Tensor], wanted: Sequence[str]) -> Mapping[str, Tensor]:
    """Give weights the names of a network where one prefix, in the file or in the network, tells them apart.

    Projects save a network as a part of something else (``model.``, ``net_g.``, ``network.``), beside which the file
    may hold other parts; a network such as :class:`~macr_plugin.archs.spandrel_arch.SpandrelNet` wraps a published one.
    """
    if not wanted or set(state) == set(wanted):
        return state
    heads = {name.split(".")[0] for name in wanted}
    wrappers = ["", f"{heads.pop()}."] if len(heads) == 1 else [""]
    for wrapper in wrappers:
        names = [name.removeprefix(wrapper) for name in wanted]
        prefixes = [name.removesuffix(names[0]) for name in state if f".{name}".endswith(f".{names[0]}")]
        # As for whole entries: an average of the weights comes first.
        for prefix in sorted(prefixes, key=lambda prefix: "ema" not in prefix):
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            if set(_weights(part)) == set(names):
                return {wrapper + name: value for name, value in part.items()}
    # As BasicSR does, which looks at every name by itself.
    return {name if name in wanted else name.removeprefix("module."): value for name, value in state.items()}
