"""Pack trained weights for shipping: half precision, safetensors, with the options that they were trained by.

python scripts/pack_weights.py net_g_best.pth options/macr_small.yml CARD.yml OUT.safetensors

CARD.yml has the texts ``data``, ``recipe`` and ``licence``, and the ``figures``; docs/weights.md shows all of them. The
checksum that is printed belongs into macr_plugin/weights/shipped.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from macr_plugin.errors import FREE_DISK_SPACE, InputError, one_line_errors
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.options.file import read_yaml
from macr_plugin.weights.checkpoint import read_checkpoint

CARD_KEYS = ("data", "recipe", "licence", "figures")


def pack(checkpoint: Path, options: Path, card: Path, out: Path) -> str:
    """Write the file of weights to ship.

    Args:
        checkpoint: Weights as BasicSR saves them.
        options: Option file of their training.
        card: YAML file with the keys ``CARD_KEYS``.
        out: File to write.

    Returns:
        SHA-256 of the file.

    Raises:
        InputError: If a file cannot be read or written, or the card is incomplete.
    """
    trained_by, about = read_yaml(options), read_yaml(card)
    missing = [key for key in CARD_KEYS if key not in about]
    if missing:
        raise InputError(f"{card} has no {', '.join(missing)}: add what the weights' card must say")
    about |= {"network_g": trained_by["network_g"], "options": trained_by}
    state = {
        name: value.to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in read_checkpoint(checkpoint).state.items()
    }
    content = save(state, {key: json.dumps(value) for key, value in about.items()})
    with atomic_write(out, FREE_DISK_SPACE) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "options", "card", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    with one_line_errors("pack_weights"):
        print(pack(arguments.checkpoint, arguments.options, arguments.card, arguments.out))


if __name__ == "__main__":
    main()
