"""Draws how a cost grows, each curve beside the straight line through its first and its last point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# More of them beside each other could not be read on a page.
MOST_COLUMNS = 2


class Curve(NamedTuple):
    """A cost over what it depends on.

    Attributes:
        title: What is measured.
        x_label: What it depends on, with the unit.
        y_label: The cost, with the unit.
        x: At least two places, increasing.
        y: As many costs.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]


def draw_curves(curves: Sequence[Curve], title: str, path: Path) -> None:
    """Draw curves, two in a row.

    Args:
        curves: At least one.
        title: What they have in common: network, device, type.
        path: The picture to write; needs matplotlib.
    """
    from matplotlib.figure import Figure

    columns = min(len(curves), MOST_COLUMNS)
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.8 * rows), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for place, curve in enumerate(curves, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(curve.x, curve.y, "o-", label="measured")
        ends = [curve.x[0], curve.x[-1]], [curve.y[0], curve.y[-1]]
        axes.plot(*ends, "--", color="tab:gray", label="straight line")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_title(curve.title, fontsize=10)
        axes.set_xlabel(curve.x_label)
        axes.set_ylabel(curve.y_label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
