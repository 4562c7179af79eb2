"""What the measuring scripts share: the machine, the clock, turns, medians, tables, JSON files and plots."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from macr_plugin.errors import InputError

PACKAGES = ("torch", "numpy", "opencv-python", "lmdb", "basicsr", "macr-plugin")

Contender = TypeVar("Contender")


class Bars(NamedTuple):
    """Figures that are drawn as bars.

    Attributes:
        x_label: What they are, with the unit.
        labels: Whose they are, from top to bottom.
        series: Name of each series of figures, and one figure for each label; a single series has no legend.
        colours: Colour of each label's bar; by default one colour for each series.
        logarithmic: Whether the axis is.
    """

    x_label: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    colours: Sequence[str] | None = None
    logarithmic: bool = False


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }


def one_line(conditions: Mapping[str, Any]) -> str:
    """Conditions of a measurement as the line that stands above its table."""
    return ", ".join(f"{name}: {value}" for name, value in conditions.items())


def load_at_the_end() -> str:
    """How busy the machine was, for the line above a table."""
    return f"load at the end {os.getloadavg()[0]:.1f}"


def now() -> float:
    """The time in seconds, once the GPU has done its work, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def status_kibibytes(pid: int, entry: str) -> int:
    """An entry of Linux's status file of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


def take_turns(contenders: Sequence[Contender], rounds: int, label: str = "measuring") -> Iterator[Contender]:
    """Give the contenders one after the other, round after round: what else the machine does hits them alike."""
    yield from tqdm([one for _ in range(rounds) for one in contenders], desc=label, unit="turn")


def median_and_range(values: Sequence[float], decimals: int = 0) -> str:
    """The median of several rounds with the lowest and the highest, such as ``12 (11-14)``."""
    return f"{statistics.median(values):.{decimals}f} ({min(values):.{decimals}f}-{max(values):.{decimals}f})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Write a Markdown table.

    Args:
        header: Names of the columns.
        rows: Their cells.
        texts: How many columns at the left hold texts; figures are flush right.
    """
    alignment = ["---" if number < texts else "---:" for number in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, alignment, *rows))


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--plot``."""
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw them to this picture; needs matplotlib")


def check_plot(path: Path | None) -> None:
    """Refuse a plot without matplotlib, before anything is measured."""
    if path and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install matplotlib, or leave it out")


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write all figures to a file, if there is to be one."""
    if path:
        path.write_text(json.dumps(report, indent=2, default=str) + "\n")


def draw_bars(panels: Sequence[Bars], path: Path) -> None:
    """Draw bars, one panel below the other.

    Args:
        panels: At least one.
        path: The picture to write; needs matplotlib.
    """
    from matplotlib.figure import Figure

    rows = sum(len(panel.labels) * (1 + 0.4 * (len(panel.series) - 1)) for panel in panels)
    figure = Figure(figsize=(9, 0.5 * rows + 1.2), layout="constrained")
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        places, height = np.arange(len(panel.labels))[::-1], 0.8 / len(panel.series)
        for number, (name, values) in enumerate(panel.series.items()):
            offset = 0.4 - height * (number + 0.5)
            axes.bar_label(axes.barh(places + offset, values, height, label=name, color=panel.colours), fmt=" {:.4g}")
        axes.set_yticks(places, panel.labels)
        if panel.logarithmic:
            axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_xlabel(panel.x_label)
        if len(panel.series) > 1:
            axes.legend()
    figure.savefig(path, dpi=120)
