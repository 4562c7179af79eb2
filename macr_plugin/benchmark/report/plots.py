"""The report's scatter plots as pictures, for Markdown and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from macr_plugin.benchmark.report.charts import Point, Scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

FRONT, OTHER, FAINT = "#0a5c9e", "#5c6167", "#dddad3"
#: Where a label may stand, the best place first: its alignment, and how far it is from its point in typographic points.
PLACES = [
    ("left", 7, 0),
    ("right", -7, 0),
    ("center", 0, 11),
    ("center", 0, -11),
    *((side, across, up) for up in (10, -10, 20, -20) for side, across in (("left", 7), ("right", -7))),
]
#: Radius in pixels of what a label must leave visible around a point.
POINT_RADIUS = 10


def draw_scatter(scatter: Scatter, path: Path) -> None:
    """Draw what the page draws; needs matplotlib.

    Args:
        scatter: What it shows.
        path: Of the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set(xlabel=scatter.x.label, ylabel=scatter.y.label)
    axes.set_title(scatter.heading, fontsize="medium", loc="left", wrap=True, parse_math=False)
    axes.set_xticks([tick.value for tick in scatter.x.ticks], [tick.text for tick in scatter.x.ticks])
    axes.set_yticks([tick.value for tick in scatter.y.ticks], [tick.text for tick in scatter.y.ticks])
    axes.set(xlim=(scatter.x.low, scatter.x.high), ylim=(scatter.y.low, scatter.y.high))
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    axes.plot([point.cost for point in scatter.front], [point.psnr for point in scatter.front], "--", color=FRONT, lw=1)
    for point in scatter.points:
        colour = FRONT if point.on_front else OTHER
        axes.plot([point.cost] * 2, [point.low, point.high], color=OTHER, lw=1)
        axes.plot(point.cost, point.psnr, "o", color=colour, markerfacecolor=colour if point.on_front else "white")
    # From here on the axes have their final place, in which labels are measured.
    figure.draw_without_rendering()
    place_labels(axes, scatter.points)
    figure.savefig(path)


def place_labels(axes: Axes, points: list[Point]) -> list[Bbox]:
    """Write each point's label where it covers neither a point nor another label, if there is such a place.

    Args:
        axes: Laid out, with the points.
        points: What is drawn there.

    Returns:
        What each label covers, in pixels.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    places = axes.transData.transform([(point.cost, point.psnr) for point in points])
    taken = [Bbox.from_extents(*(place - POINT_RADIUS), *(place + POINT_RADIUS)) for place in places]
    around = axes.get_window_extent()
    for point in points:
        # The line of the front may run behind a label.
        legible = [withStroke(linewidth=3, foreground="white")]
        label = axes.annotate(
            point.label,
            (point.cost, point.psnr),
            xytext=(0, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize="small",
            parse_math=False,
            path_effects=legible,
        )
        for alignment, *distance in PLACES:
            label.set(horizontalalignment=alignment, position=distance)
            box = label.get_window_extent()
            inside = around.containsx(box.x0) and around.containsx(box.x1)
            if inside and not box.count_overlaps(taken):
                break
        taken.append(box)
    return taken[len(points) :]
