"""``macr export``: a trained network as a file for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from macr_plugin.cli.arguments import add_weights


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``macr export``.

    Args:
        commands: What the command is added to.
    """
    parser = commands.add_parser(
        "export",
        help="write a trained network as ONNX or as a graph of torch.export",
        description="Write a trained network as a file that runs without this package, for pictures of every size.",
    )
    add_weights(parser)
    parser.add_argument("--format", default="onnx", choices=("onnx", "torch-export"), help="default: %(default)s")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="such as macr.onnx or macr.pt2")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from macr_plugin.inference.export import export_network
    from macr_plugin.inference.trained_network import find_weights, load_network

    network, source = load_network(arguments.weights), find_weights(arguments.weights).name
    for name, value in export_network(network, arguments.out, arguments.format, source).items():
        print(f"{name}: {value}")
    print(f"Written: {arguments.out}")
