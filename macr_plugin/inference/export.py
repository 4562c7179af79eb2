"""Writes a network as a file that runs without this package: ONNX, or a graph of ``torch.export``."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from macr_plugin import __version__
from macr_plugin.archs.contract import minimum_size_of
from macr_plugin.errors import FREE_DISK_SPACE, InputError
from macr_plugin.filesystem.atomic import atomic_write

FORMATS = ("onnx", "torch-export")
INPUT, OUTPUT = "blurred", "restored"
#: First opset whose operators all of our networks need.
OPSET = 18
#: Name of the metadata inside a file of ``torch.export``.
EXTRA_FILE = "metadata.json"
#: In pixels, of the example for a network that takes every size.
SMALLEST_EXAMPLE = 16
#: Height and width of the example are these multiples of the smallest size, and odd: no graph relies on equal sides.
EXAMPLE_FACTORS = (3, 5)


def export_network(network: nn.Module, target: Path, file_format: str, source: str = "") -> dict[str, str]:
    """Export a network for pictures of every height and width.

    Args:
        network: Maps (N, 3, H, W), RGB in [0, 1], to the same.
        target: What to write, atomically. Missing folders are made.
        file_format: ``onnx`` for float32 input ``blurred`` and output ``restored``; ``torch-export`` for
            :func:`torch.export.load`, whose ``.module()`` takes and returns a tensor.
        source: Where the weights are from, for the metadata.

    Returns:
        The metadata in the file: ONNX's ``metadata_props``, or the extra file ``metadata.json``.

    Raises:
        InputError: If a package is missing, the network cannot be exported, or the file cannot be written.
    """
    if file_format not in FORMATS:
        raise InputError(f"--format {file_format}: choose one of {', '.join(FORMATS)}")
    if file_format == "onnx":
        _require("onnx", "onnxscript")
    network = network.cpu().float().eval()
    metadata = _metadata(network, source)
    with _quiet():
        program = _export(network)
        if file_format == "onnx":
            _write_onnx(program, target, metadata)
        else:
            _write_program(program, target, metadata)
    return metadata


def _require(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--format onnx needs the package {package}: pip install onnx onnxruntime onnxscript")


def _metadata(network: nn.Module, source: str) -> dict[str, str]:
    return {
        "network": type(network).__name__,
        "source": source,
        "producer": f"macr-plugin {__version__}",
        "input": "(N, 3, H, W), float32, RGB in [0, 1]",
        "output": "(N, 3, H, W), float32, RGB, not clipped to [0, 1]",
        "minimum_size": str(_minimum_size(network)),
    }


def _minimum_size(network: nn.Module) -> int:
    minimum = minimum_size_of(network) or 1
    return minimum if minimum > 1 else SMALLEST_EXAMPLE


def _export(network: nn.Module) -> torch.export.ExportedProgram:
    minimum = _minimum_size(network)
    example = torch.rand(2, 3, *(factor * minimum + 1 for factor in EXAMPLE_FACTORS))
    free = torch.export.Dim.DYNAMIC
    try:
        program = torch.export.export(network, (example,), dynamic_shapes=({0: free, 2: free, 3: free},))
    # Whatever in a network stops it, the user can only take another one.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{type(network).__name__} cannot be exported for every height and width ({reason}): choose a MACR, "
            "SRNDeblurNet or DeepDeblur"
        ) from error
    # They say how the memory of the example was laid out, with no bearing on the values; the graph holds without them.
    program._guards_code = []
    return program


def _write_onnx(program: torch.export.ExportedProgram, target: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    exported = torch.onnx.export(
        program, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
    )
    assert exported is not None  # noqa: S101  for the type checker
    model = exported.model_proto
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    with atomic_write(target, FREE_DISK_SPACE) as file:
        file.write(model.SerializeToString())


def _write_program(program: torch.export.ExportedProgram, target: Path, metadata: Mapping[str, str]) -> None:
    extra: dict[str, Any] = {EXTRA_FILE: json.dumps(metadata)}
    # Into memory first: on a full disk torch's writer ends the process.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=extra)
    with atomic_write(target, FREE_DISK_SPACE) as file:
        file.write(content.getbuffer())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' notes on their own inner workings from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
