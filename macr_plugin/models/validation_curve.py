"""The curve of a training: what each validation measured, as a table and as a picture that survive a resume."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from macr_plugin.errors import FREE_DISK_SPACE
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.line_chart import HEIGHT, WIDTH, Line, draw_line
from macr_plugin.visualization import BACKGROUND, Picture

# Columns of the table before those of the metrics; each metric has two, the second for the blurred input.
ITERATION, SECONDS, BLURRED = "iteration", "seconds", "{} of blurred input"
TIME_UNITS = (("seconds", 1), ("minutes", 60), ("hours", 3600), ("days", 86400))


@dataclass(frozen=True)
class CurvePoint:
    """What one validation measured.

    Attributes:
        iteration: After how many steps.
        seconds: Time since the training began, without what passed between an interruption and the resume.
        restored: Name of each metric -> its mean over the restored frames.
        blurred: The same for the blurred frames.
    """

    iteration: int
    seconds: float
    restored: Mapping[str, float]
    blurred: Mapping[str, float]


class ValidationCurve:
    """Keeps ``<dataset>_curve.csv`` and, from the second validation on, ``<dataset>_curve.png`` up to date.

    The picture shows the first metric over iterations and over time. A resumed training goes on with the table that it
    finds, from its own iteration on.

    Args:
        folder: Where they lie.
        dataset: Name of the data set.
        began: When this process began to train, in seconds of ``time.monotonic``.
        lower_is_better: Whether the first metric is better the lower it is.
    """

    def __init__(self, folder: Path, dataset: str, began: float, lower_is_better: bool = False) -> None:
        self._table = folder / f"{dataset}_curve.csv"
        self._picture = folder / f"{dataset}_curve.png"
        self._dataset = dataset
        self._began = began
        self._lower_is_better = lower_is_better
        self._points = _read(self._table)
        self._resumed = True

    def add(self, iteration: int, restored: Mapping[str, float], blurred: Mapping[str, float]) -> None:
        """Add what a validation measured, and draw the curve again.

        Args:
            iteration: Its iteration. What the table holds from there on is of a run that was interrupted later.
            restored: Name of each metric -> its mean over the restored frames.
            blurred: The same for the blurred frames.

        Raises:
            InputError: If a file cannot be written.
        """
        earlier = [point for point in self._points if point.iteration < iteration]
        if self._resumed:
            self._began -= earlier[-1].seconds if earlier else 0.0
            self._resumed = False
        self._points = [*earlier, CurvePoint(iteration, time.monotonic() - self._began, restored, blurred)]
        with atomic_write(self._table, FREE_DISK_SPACE) as file:
            file.write(_table_of(self._points).encode())
        if len(self._points) > 1:
            with atomic_write(self._picture, FREE_DISK_SPACE) as file:
                picture = draw_curve(self._points, self._dataset, self._lower_is_better)
                file.write(cv2.imencode(".png", picture)[1].tobytes())


def draw_curve(points: Sequence[CurvePoint], dataset: str, lower_is_better: bool = False) -> Picture:
    """Draw the first metric over iterations and over time.

    Args:
        points: What the validations measured, in order.
        dataset: Name of the data set.
        lower_is_better: Whether the metric is better the lower it is.

    Returns:
        Picture (H, W, 3), uint8 BGR, of two charts side by side; white where the metric is finite nowhere.
    """
    name = next(iter(points[-1].restored))
    shown = [point for point in points if math.isfinite(point.restored.get(name, math.nan))]
    if not shown:
        return np.full((HEIGHT, 2 * WIDTH, 3), BACKGROUND, np.uint8)
    unit, length = next(pair for pair in reversed(TIME_UNITS) if shown[-1].seconds >= 2 * pair[1] or pair[1] == 1)
    reference = points[-1].blurred.get(name, math.nan)
    values = [point.restored[name] for point in shown]
    charts = [
        draw_line(
            Line(
                f"{name} on {dataset}",
                label,
                places,
                values,
                reference if math.isfinite(reference) else None,
                f"blurred input, {reference:.2f}",
                lower_is_better,
            )
        )
        for label, places in (
            ("iterations", [point.iteration for point in shown]),
            (f"{unit} of training and validation", [point.seconds / length for point in shown]),
        )
    ]
    return np.hstack(charts)


def _table_of(points: Sequence[CurvePoint]) -> str:
    names = list(points[-1].restored)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([ITERATION, SECONDS, *names, *(BLURRED.format(name) for name in names)])
    for point in points:
        figures = [values.get(name, math.nan) for values in (point.restored, point.blurred) for name in names]
        writer.writerow([point.iteration, f"{point.seconds:.1f}", *(f"{figure:.6f}" for figure in figures)])
    return text.getvalue()


def _read(table: Path) -> list[CurvePoint]:
    """What a table holds; nothing if there is none, or one that somebody else has written."""
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text())))
        return [_point_of(row) for row in rows]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _point_of(row: Mapping[str, str]) -> CurvePoint:
    names = [name for name in row if BLURRED.format(name) in row]
    restored = {name: float(row[name]) for name in names}
    blurred = {name: float(row[BLURRED.format(name)]) for name in names}
    return CurvePoint(int(row[ITERATION]), float(row[SECONDS]), restored, blurred)
