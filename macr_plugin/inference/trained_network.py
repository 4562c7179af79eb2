"""Finds trained weights and the options of their network, and builds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from macr_plugin.errors import FREE_DISK_SPACE, InputError
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.inference.restorer import build_network
from macr_plugin.options.file import read_yaml
from macr_plugin.weights.checkpoint import NETWORK_KEY, load_state, plain_options, read_checkpoint

SUFFIXES = (".pth", ".pt", ".safetensors")


def load_network(weights: str | Path) -> nn.Module:
    """Build a network with its trained weights.

    Args:
        weights: Name of shipped weights, a ``.pth`` or ``.safetensors`` file, or the folder of a training, such as
            ``experiments/my_run``, of which ``net_g_best.pth`` is taken, else the newest ``net_g_*.pth``.

    Returns:
        The network in evaluation mode, in float32 on the CPU, without gradients. Its options are those that the file
        records, else those of ``network_g`` in the option file that BasicSR left beside it.

    Raises:
        InputError: If nothing is found, the options are not known, or the weights do not fit.
    """
    return _load(find_weights(weights))[0]


def save_with_options(weights: str | Path, target: str | Path) -> None:
    """Write weights once more, with all that it takes to build their network.

    Args:
        weights: As for :func:`load_network`.
        target: A ``.pth`` file, written atomically, which needs no option file beside it.

    Raises:
        InputError: As :func:`load_network` does, or if the file cannot be written.
    """
    network, options = _load(find_weights(weights))
    with atomic_write(Path(target), FREE_DISK_SPACE) as file:
        torch.save({"params": network.state_dict(), NETWORK_KEY: plain_options(options)}, file)


def _load(file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a file, with its ``type`` and options."""
    checkpoint = read_checkpoint(file)
    options = checkpoint.network or _options_beside(file)
    network = build_network(options, f"weights {file}")
    load_state(network, checkpoint)
    return network.eval().requires_grad_(False), options


def find_weights(weights: str | Path) -> Path:
    """Find the file that ``weights`` of :func:`load_network` stands for.

    Args:
        weights: A name, a file or a folder.

    Raises:
        InputError: If there is no such thing.
    """
    path = Path(weights)
    if path.is_dir():
        return _newest(path)
    if path.is_file():
        return path
    from macr_plugin.weights.shipped import find_shipped, shipped_names

    shipped = find_shipped(str(weights))
    if shipped is None:
        raise InputError(
            f"--weights {weights}: there is no such file or folder, and of that name no weights are shipped: give one "
            f"of {', '.join(shipped_names())}, a .pth or .safetensors file, or the folder of a training"
        )
    return shipped


def _newest(folder: Path) -> Path:
    models = folder / "models" if (folder / "models").is_dir() else folder
    if (models / "net_g_best.pth").is_file():
        return models / "net_g_best.pth"
    files = {file: _iteration(file) for file in models.glob("net_g_*") if file.suffix in SUFFIXES}
    if not files:
        raise InputError(f"{folder} holds no net_g_*.pth: give the folder of a training, or a file of weights")
    return max(files, key=lambda file: (files[file], file.stat().st_mtime))


def _iteration(file: Path) -> float:
    """Iteration of a file of BasicSR; ``net_g_latest`` comes after every number."""
    number = re.fullmatch(r"net_g_(\d+)", file.stem)
    return float(number[1]) if number else float("inf") if file.stem == "net_g_latest" else -1


def _options_beside(file: Path) -> dict[str, Any]:
    """``network_g`` of the option file of the training that wrote a checkpoint."""
    folder = file.resolve().parent
    run = folder.parent if folder.name == "models" else folder
    named = [run / f"{file.stem}.yml", run / f"{run.name}.yml"]
    others = sorted(run.glob("*.yml"))
    candidates = [path for path in named if path.is_file()] or (others if len(others) == 1 else [])
    if not candidates:
        raise InputError(
            f"weights {file} do not record their network, and no option file (.yml) of their training lies in {run}: "
            "copy it there"
        )
    options = read_yaml(candidates[0])
    network = options.get("network_g") if isinstance(options, dict) else None
    if not isinstance(network, dict) or "type" not in network:
        raise InputError(f"{candidates[0]} names no network: give network_g with its type and options")
    return network
