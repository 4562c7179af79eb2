"""The weights that come with the package: names, files, checksums."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError


@dataclass(frozen=True)
class ShippedWeights:
    """Weights that come with the package.

    Attributes:
        file: Name of the file beside this module.
        sha256: Its checksum.
        summary: What they are, in one sentence.
    """

    file: str
    sha256: str
    summary: str


#: By the name that stands for the file wherever weights are given.
SHIPPED = {
    "macr-small": ShippedWeights(
        "macr_small.safetensors",
        "b33faa1a72a4d2b5fabf2174275cb04b616140455a0e78913ebd58cb51950517",
        "MACR with 32 channels and 6 blocks, trained on rendered motion blur; see docs/weights.md.",
    ),
}


def shipped_names() -> tuple[str, ...]:
    """Names of all shipped weights."""
    return tuple(SHIPPED)


@cache
def find_shipped(name: str) -> Path | None:
    """Find the file of shipped weights.

    Args:
        name: A name such as ``macr-small``.

    Returns:
        The file; None if no weights of that name are shipped.

    Raises:
        InputError: If the file is missing from the installation, or is not the one that was shipped.
    """
    weights = SHIPPED.get(name)
    if weights is None:
        return None
    path = Path(__file__).with_name(weights.file)
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"shipped weights {name}: {path}: {error.strerror}: install macr-plugin again") from error
    if found != weights.sha256:
        raise InputError(f"shipped weights {name}: {path} is not the file that was shipped: install macr-plugin again")
    return path


def read_card(name: str) -> dict[str, Any]:
    """Read what the file of shipped weights says about itself.

    Args:
        name: A name such as ``macr-small``.

    Returns:
        ``network_g``, the type and options of the network; ``options``, those of the training; ``data``, ``recipe`` and
        ``licence`` as texts; ``figures``, what was measured.

    Raises:
        InputError: If no weights of that name are shipped.
    """
    from safetensors import safe_open

    path = find_shipped(name)
    if path is None:
        raise InputError(f"no weights {name} are shipped: choose {' or '.join(shipped_names())}")
    with safe_open(path, framework="pt") as file:
        return {key: json.loads(text) for key, text in file.metadata().items()}
