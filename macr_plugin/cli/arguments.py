"""Arguments that several commands share."""

from __future__ import annotations

import argparse


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``.

    Args:
        parser: What they are added to.
    """
    parser.add_argument(
        "--weights",
        default="macr-small",
        metavar="NAME|FILE|FOLDER",
        help="shipped weights, a .pth or .safetensors file, or the folder of a training (default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--precision``.

    Args:
        parser: What they are added to.
    """
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="default: %(default)s"
    )
