"""Builds the networks of a benchmark."""

from __future__ import annotations

from pathlib import Path

from macr_plugin.benchmark.options import Entry
from macr_plugin.errors import InputError
from macr_plugin.inference.restorer import Restorer, build_network
from macr_plugin.weights.checkpoint import changed_options, load_weights, read_checkpoint


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
    if entry.network is None:
        raise InputError(f"{entry.label} has no network: give it one, such as network: {{type: MACR}}")
    network = build_network(entry.network, entry.label)
    if weights is not None:
        load_weights(network, weights, entry.param_key)
    return Restorer(network, entry.size_multiple, entry.tile).eval().requires_grad_(False)


def describe_changed_options(entry: Entry, weights: Path) -> str | None:
    """Say in which options an entry's network differs from that which its weights were trained with.

    Args:
        entry: The entry; it has a network.
        weights: File of its weights, or a folder of a training.

    Returns:
        Such as ``skip_connections: True, now False``; None if nothing differs or the file does not record them.

    Raises:
        InputError: If the file cannot be read.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    network = entry.network or {}
    checkpoint = read_checkpoint(weights, entry.param_key)
    return changed_options(checkpoint, network, ARCH_REGISTRY.get(network["type"])) or None


def describe_inference(entry: Entry) -> str:
    """How an entry restores a frame, for people."""
    parts = ["full" if entry.tile is None else f"tile {entry.tile.size} overlap {entry.tile.overlap}"]
    if entry.tlc:
        parts.append("TLC")
    if entry.size_multiple > 1:
        parts.append(f"padded to {entry.size_multiple}")
    return ", ".join(parts)
