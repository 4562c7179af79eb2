"""What the report's charts show, in the units of what was measured; where that lies is up to whoever draws it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from macr_plugin.benchmark.report.comparability import (
    Measured,
    measured_entries,
    pareto_front,
    protocols,
    settings,
)
from macr_plugin.benchmark.results import Results
from macr_plugin.line_chart import round_ticks
from macr_plugin.metrics.psnr_ssim import PSNR

# Room at both ends of a strip for the width of its marks, as a part of what the frames span.
STRIP_MARGIN = 0.005
# A logarithmic axis that spans less than this has too few round numbers among 1, 2 and 5.
NARROW = 4.0


@dataclasses.dataclass(frozen=True)
class Tick:
    """A mark on an axis.

    Attributes:
        value: Where it stands, in the axis's unit.
        text: The value as it is written there.
    """

    value: float
    text: str


@dataclasses.dataclass(frozen=True)
class Axis:
    """What one direction of a chart stands for.

    Attributes:
        label: What it shows, with its unit.
        low: Value at its beginning.
        high: Value at its end, above ``low``.
        ticks: Its marks, in rising order.
        logarithmic: Whether equal distances are equal ratios; ``low`` is above 0 then.
    """

    label: str
    low: float
    high: float
    ticks: list[Tick]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a value lies: 0 at its beginning, 1 at its end."""
        values = (self.low, self.high, value)
        low, high, at = map(math.log, values) if self.logarithmic else values
        return (at - low) / (high - low)


@dataclasses.dataclass(frozen=True)
class Point:
    """An entry in a scatter plot.

    Attributes:
        label: Of the entry.
        cost: In the unit of the horizontal axis.
        psnr: In dB.
        low: Lower end of the PSNR's interval, in dB.
        high: Upper end, in dB.
        on_front: Whether no other entry is better in both.
        description: What the point says, in a sentence.
    """

    label: str
    cost: float
    psnr: float
    low: float
    high: float
    on_front: bool
    description: str


@dataclasses.dataclass(frozen=True)
class Scatter:
    """PSNR over a cost.

    Attributes:
        heading: What is drawn.
        x: The cost, logarithmic.
        y: The PSNR.
        points: The entries.
        front: The points that no other entry beats, cheapest first.
        left_out: Labels of entries without that cost, or of infinite PSNR.
    """

    heading: str
    x: Axis
    y: Axis
    points: list[Point]
    front: list[Point]
    left_out: list[str]


@dataclasses.dataclass(frozen=True)
class StripRow:
    """All frames of one entry as marks on a line.

    Attributes:
        label: Of the entry.
        values: Value of each frame in dB.
        mean: Of all frames, in dB.
    """

    label: str
    values: list[float]
    mean: float


@dataclasses.dataclass(frozen=True)
class Strip:
    """Frame by frame, how the entries compare.

    Attributes:
        name: ``psnr``, or ``difference``, which is seen against 0.
        heading: What is drawn.
        keys: ``scene/frame`` of each frame.
        rows: The entries.
        axis: Of all rows, in dB.
    """

    name: str
    heading: str
    keys: list[str]
    rows: list[StripRow]
    axis: Axis


def scatters(results: Results) -> list[Scatter]:
    """Draw PSNR over latency in each setting, and over the number of parameters, for each protocol.

    Args:
        results: The benchmark.

    Returns:
        The plots in which there are at least two points.
    """
    drawn: list[Scatter | None] = []
    for protocol_id in protocols(results):
        for setting in settings(results):
            heading = f"{PSNR.heading} over latency: {setting}; {protocol_id}"
            nets = measured_entries(results, protocol_id, setting)
            drawn.append(_scatter(heading, "ms a pass, median", nets, lambda net: net.milliseconds, _latency_text))
        nets = measured_entries(results, protocol_id, None)
        heading = f"{PSNR.heading} over parameters; {protocol_id}"
        drawn.append(_scatter(heading, "million parameters", nets, _millions, lambda net: f"{_millions(net):.3g} M"))
    return [scatter for scatter in drawn if scatter]


def strips(results: Results) -> list[Strip]:
    """Draw each frame's PSNR, and its difference to the first entry, for the protocol of most entries.

    Args:
        results: The benchmark.

    Returns:
        Two strips; the difference alone is left out where there is but one entry, both where there is none.
    """
    ids = protocols(results)
    if not ids:
        return []
    nets = measured_entries(results, ids[0], None)
    by_key = [{frame.key: frame.psnr for frame in net.quality.frames} for net in nets]
    # A perfect frame has no place on an axis.
    keys = [key for key in by_key[0] if all(math.isfinite(values.get(key, math.inf)) for values in by_key)]
    if not keys:
        return []
    psnr = [[values[key] for key in keys] for values in by_key]
    labels = [net.label for net in nets]
    drawn = [_strip("psnr", f"{PSNR.heading} of each frame in {PSNR.unit}; {ids[0]}", keys, labels, psnr)]
    if len(nets) > 1:
        differences = [[own - first for own, first in zip(values, psnr[0], strict=True)] for values in psnr[1:]]
        heading = f"{PSNR.heading} of each frame minus that of {labels[0]} in {PSNR.unit}; {ids[0]}"
        drawn.insert(0, _strip("difference", heading, keys, labels[1:], differences))
    return drawn


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers for a logarithmic axis.

    Args:
        low: Lowest value, above 0.
        high: Highest value, not below it.

    Returns:
        Numbers 1, 2 and 5 times a power of ten, and all nine digits where the values span little; the first is at most
        ``low``, the last at least ``high``.
    """
    digits = (1, 2, 5) if high / low >= NARROW else range(1, 10)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    numbers = [float(f"{digit}e{power}") for power in powers for digit in digits]
    first = max(index for index, number in enumerate(numbers) if number <= low)
    last = min(index for index, number in enumerate(numbers) if number >= high)
    return numbers[first : max(last, first + 1) + 1]


def _scatter(
    heading: str,
    cost: str,
    nets: Sequence[Measured],
    cost_of: Callable[[Measured], float | None],
    cost_text: Callable[[Measured], str],
) -> Scatter | None:
    shown = [(value, net) for net in nets if (value := cost_of(net)) and math.isfinite(net.quality.psnr.high)]
    if len(shown) < 2:
        return None
    costs = [value for value, _ in shown]
    ends = [end for _, net in shown for end in (net.quality.psnr.low, net.quality.psnr.high)]
    front = pareto_front([(value, net.psnr) for value, net in shown])
    points = [
        Point(
            label=net.label,
            cost=value,
            psnr=net.psnr,
            low=net.quality.psnr.low,
            high=net.quality.psnr.high,
            on_front=index in front,
            description=f"{net.label}: {net.psnr:.2f} dB, {cost_text(net)}",
        )
        for index, (value, net) in enumerate(shown)
    ]
    x_marks, y_marks = logarithmic_ticks(min(costs), max(costs)), round_ticks(min(ends), max(ends))
    x_ticks, y_ticks = [Tick(mark, f"{mark:g}") for mark in x_marks], [Tick(mark, f"{mark:.4g}") for mark in y_marks]
    return Scatter(
        heading=heading,
        x=Axis(cost, x_marks[0], x_marks[-1], x_ticks, logarithmic=True),
        y=Axis(f"{PSNR.heading}, {PSNR.unit}", y_marks[0], y_marks[-1], y_ticks),
        points=points,
        front=[points[index] for index in front],
        left_out=[net.label for net in nets if all(net is not other for _, other in shown)],
    )


def _strip(name: str, heading: str, keys: list[str], labels: Sequence[str], series: Sequence[list[float]]) -> Strip:
    flat = [value for values in series for value in values]
    # Differences are seen against 0.
    flat += [0.0] if name == "difference" else []
    low, high = min(flat), max(max(flat), min(flat) + 1e-3)
    sign = "+" if name == "difference" else ""
    ticks = [
        Tick(mark, "0" if abs(mark) < 1e-9 else f"{mark:{sign}.4g}")
        for mark in round_ticks(low, high)
        if low <= mark <= high
    ]
    margin = STRIP_MARGIN * (high - low)
    rows = [
        StripRow(label, [round(value, 3) for value in values], sum(values) / len(values))
        for label, values in zip(labels, series, strict=True)
    ]
    return Strip(name, heading, keys, rows, Axis(PSNR.unit, low - margin, high + margin, ticks))


def _millions(net: Measured) -> float:
    return (net.entry.parameters or 0) / 1e6


def _latency_text(net: Measured) -> str:
    assert net.latency is not None  # noqa: S101  for the type checker
    return f"{net.latency.median_ms:.2f} ms ({net.latency.dtype}, {net.latency.mode})"
