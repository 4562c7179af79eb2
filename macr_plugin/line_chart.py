"""Line charts as pictures, drawn with OpenCV: a training needs no plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from macr_plugin.visualization import BACKGROUND, FONT, INK, LINE_HEIGHT, Picture, font_scale, wrap_text

NUM_TICKS = 5
WIDTH, HEIGHT = 520, 360
# Room for the numbers at the left, the title, the numbers below and the end of the last one.
LEFT, TOP, BOTTOM, RIGHT = 72, 40, 52, 28
# Of the title, which may take two lines, and of everything else.
TITLE_SCALES, SCALE = (0.45, 0.4), 0.45
GRID = (222, 218, 214)
# Blue and grey as in the benchmark's charts, BGR.
LINE, REFERENCE = (158, 92, 10), (130, 124, 118)


class Line(NamedTuple):
    """What a chart shows.

    Attributes:
        title: Stands above the chart.
        x_label: What is measured to the right, and its unit.
        x: Places to the right, increasing.
        y: Heights, as many.
        reference: Height of the dashed line; None for none.
        reference_label: What that line is.
        lower_is_better: Which end of the heights is the best, which is marked.
    """

    title: str
    x_label: str
    x: Sequence[float]
    y: Sequence[float]
    reference: float | None = None
    reference_label: str = ""
    lower_is_better: bool = False


def draw_line(line: Line) -> Picture:
    """Draw a chart; the highest point is marked.

    Args:
        line: What to draw: at least one point, all finite.

    Returns:
        Picture of shape (360, 520, 3), uint8 BGR.
    """
    picture = np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)
    heights = [*line.y, *([] if line.reference is None else [line.reference])]
    x_ticks, y_ticks = round_ticks(0, max(line.x)), round_ticks(min(heights), max(heights))

    def place(x: float, y: float) -> tuple[int, int]:
        right = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(LEFT + right * (WIDTH - LEFT - RIGHT)), round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))

    _draw_frame(picture, line, [(tick, place(tick, y_ticks[0])) for tick in x_ticks], "x")
    _draw_frame(picture, line, [(tick, place(x_ticks[0], tick)) for tick in y_ticks], "y")
    if line.reference is not None:
        _draw_reference(picture, line, place(x_ticks[0], line.reference)[1])
    points = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
    cv2.polylines(picture, [np.array(points)], isClosed=False, color=LINE, thickness=2, lineType=cv2.LINE_AA)
    for point in points:
        cv2.circle(picture, point, 3, LINE, cv2.FILLED, cv2.LINE_AA)
    best = int(np.argmin(line.y) if line.lower_is_better else np.argmax(line.y))
    cv2.circle(picture, points[best], 6, LINE, 1, cv2.LINE_AA)
    _write(picture, f"{line.y[best]:.2f}", (points[best][0], points[best][1] - 12), align=0.5)
    return picture


def round_ticks(low: float, high: float) -> list[float]:
    """Choose about five round numbers from one value to another, both included in what they span.

    Args:
        low: Lowest value.
        high: Highest value, not below it.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten; the first is at most ``low``, the last at least ``high``.
    """
    span = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / NUM_TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * NUM_TICKS >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _draw_frame(picture: Picture, line: Line, ticks: Sequence[tuple[float, tuple[int, int]]], axis: str) -> None:
    for value, (x, y) in ticks:
        if axis == "x":
            cv2.line(picture, (x, TOP), (x, HEIGHT - BOTTOM), GRID, 1)
            _write(picture, f"{value:g}", (x, y + 18), align=0.5)
        else:
            cv2.line(picture, (LEFT, y), (WIDTH - RIGHT, y), GRID, 1)
            _write(picture, f"{value:.6g}", (LEFT - 8, y + 5), align=1)
    if axis == "x":
        _write(picture, line.x_label, ((LEFT + WIDTH - RIGHT) // 2, HEIGHT - 12), align=0.5)
    else:
        _write_title(picture, line.title)


def _draw_reference(picture: Picture, line: Line, y: int) -> None:
    for x in range(LEFT, WIDTH - RIGHT, 12):
        cv2.line(picture, (x, y), (min(x + 6, WIDTH - RIGHT), y), REFERENCE, 1)
    _write(picture, line.reference_label, (WIDTH - RIGHT, y - 6), align=1)


def _write_title(picture: Picture, title: str) -> None:
    room = WIDTH - LEFT - 2
    scale = font_scale([title], room, TITLE_SCALES)
    lines = wrap_text(title, room, scale)
    first = 22 - LINE_HEIGHT // 2 * (len(lines) - 1)
    for row, text in enumerate(lines):
        _write(picture, text, (LEFT, first + LINE_HEIGHT * row), align=0, scale=scale)


def _write(picture: Picture, text: str, place: tuple[int, int], align: float, scale: float = SCALE) -> None:
    """Write so that the text lies right of the place (0), about it (0.5) or left of it (1)."""
    width = cv2.getTextSize(text, FONT, scale, 1)[0][0]
    corner = min(max(2, round(place[0] - align * width)), WIDTH - 2 - width), place[1]
    cv2.putText(picture, text, corner, FONT, scale, INK, 1, cv2.LINE_AA)
