"""Weights that come with the package, by name."""

from __future__ import annotations

from pathlib import Path


def shipped_names() -> tuple[str, ...]:
    """Names of the shipped weights, such as ``macr-small``."""
    return tuple(sorted(file.stem.replace("_", "-") for file in Path(__file__).parent.glob("*.safetensors")))


def find_shipped(name: str) -> Path | None:
    """File of shipped weights; None if there are none of that name."""
    return Path(__file__).with_name(f"{name.replace('-', '_')}.safetensors") if name in shipped_names() else None
