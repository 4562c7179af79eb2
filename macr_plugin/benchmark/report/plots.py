"""The report's scatter plots as pictures, for Markdown and slides."""

from __future__ import annotations

from pathlib import Path

from macr_plugin.benchmark.report.charts import Scatter

FRONT, OTHER, FAINT = "#0a5c9e", "#5c6167", "#dddad3"


def draw_scatter(scatter: Scatter, path: Path) -> None:
    """Draw what the page draws; needs matplotlib.

    Args:
        scatter: What it shows.
        path: Of the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
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
        axes.annotate(
            point.label,
            (point.cost, point.psnr),
            xytext=(-7 if point.label_on_left else 7, 0),
            textcoords="offset points",
            horizontalalignment="right" if point.label_on_left else "left",
            verticalalignment="center",
            fontsize="small",
            parse_math=False,
        )
    figure.savefig(path, dpi=120)
