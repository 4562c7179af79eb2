"""The report's scatter plots as pictures, for Markdown and slides."""

from __future__ import annotations

from pathlib import Path

from macr_plugin.benchmark.report.charts import BOTTOM, LEFT, RIGHT, TOP, Scatter

FRONT, OTHER, FAINT = "#0a5c9e", "#5c6167", "#dddad3"


def draw_scatter(scatter: Scatter, path: Path) -> None:
    """Draw what the page draws; needs matplotlib.

    Args:
        scatter: Its geometry.
        path: Of the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(LEFT, RIGHT), ylim=(BOTTOM, TOP), xlabel=scatter.cost, ylabel="PSNR, dB")
    axes.set_title(scatter.heading, fontsize="medium", loc="left", wrap=True, parse_math=False)
    axes.set_xticks([tick.place for tick in scatter.x_ticks], [tick.text for tick in scatter.x_ticks])
    axes.set_yticks([tick.place for tick in scatter.y_ticks], [tick.text for tick in scatter.y_ticks])
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    axes.plot([point.x for point in scatter.front], [point.y for point in scatter.front], "--", color=FRONT, lw=1)
    for point in scatter.points:
        colour = FRONT if point.on_front else OTHER
        axes.plot([point.x] * 2, [point.low, point.high], color=OTHER, lw=1)
        axes.plot(point.x, point.y, "o", color=colour, markerfacecolor=colour if point.on_front else "white")
        on_left = point.x > (LEFT + RIGHT) / 2
        axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=(-7 if on_left else 7, 0),
            textcoords="offset points",
            horizontalalignment="right" if on_left else "left",
            verticalalignment="center",
            fontsize="small",
            parse_math=False,
        )
    figure.savefig(path, dpi=120)
