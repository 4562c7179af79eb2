"""The figures of a benchmark as tables: figures that must not be compared never share one."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import statistics
from collections.abc import Callable, Sequence

from macr_plugin.benchmark.measuring.intervals import verdict
from macr_plugin.benchmark.report.comparability import Setting, protocols, setting_of, settings
from macr_plugin.benchmark.results import (
    Complexity,
    EntryResult,
    Interval,
    Latency,
    PairedDifference,
    Published,
    Quality,
    Results,
    Training,
    is_steady,
)
from macr_plugin.metrics import metric_table
from macr_plugin.metrics.psnr_ssim import PSNR, SSIM

Value = str | int | float | None
Row = dict[str, "Cell"]

BLURRED = "blurred input"
TIME_DIGITS = 2
UNSTEADY = "the passes differ too much to be compared: the machine was busy"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure, for people and for programs.

    Attributes:
        text: As people read it; empty if there is nothing.
        values: Column of the CSV file to the exact value; rows are sorted by the first.
    """

    text: str
    values: dict[str, Value]

    @property
    def order(self) -> Value:
        """What rows are sorted by."""
        return next(iter(self.values.values()), None)


@dataclasses.dataclass
class Table:
    """Rows that may be compared.

    Attributes:
        kind: ``quality``, ``cost``, ``size``, ``training`` or ``unmeasured``.
        name: Stem of its CSV file.
        heading: What is compared, and how it was measured.
        note: How to read it.
        rows: Column to cell; all rows have the same columns.
    """

    kind: str
    name: str
    heading: str
    note: str
    rows: list[Row]

    @property
    def columns(self) -> list[str]:
        """Columns in which there is anything."""
        return [column for column in self.rows[0] if any(row[column].text for row in self.rows)]

    def is_number(self, column: str) -> bool:
        """Whether a column holds numbers."""
        return any(isinstance(row[column].order, int | float) for row in self.rows)


def all_tables(results: Results) -> list[Table]:
    """Lay out all figures.

    Args:
        results: The benchmark.

    Returns:
        A quality table for each protocol; a cost table for each device, size and batch; parameters and arithmetic;
        training, again by protocol; and the entries whose quality is unknown. Tables without rows are left out.
    """
    ids = protocols(results)
    tables = [
        *(_quality_table(results, protocol_id) for protocol_id in ids),
        *(_cost_table(results, setting) for setting in settings(results)),
        _size_table(results),
        *(_training_table(results, protocol_id) for protocol_id in [*ids, None]),
        _unmeasured_table(results),
    ]
    return [table for table in tables if table.rows]


def write_csv(table: Table) -> str:
    """Write a table for programs.

    Args:
        table: Its columns and rows.

    Returns:
        Comma-separated values with a header line, unrounded; what is unknown is empty.
    """
    rows = [{name: value for cell in row.values() for name, value in cell.values.items()} for row in table.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_markdown(table: Table) -> str:
    """Write a table for people.

    Args:
        table: Its columns and rows.

    Returns:
        A Markdown table; columns in which there is nothing are left out.
    """
    columns = table.columns
    lines = [
        [escape_markdown(column) for column in columns],
        ["---:" if table.is_number(column) else "---" for column in columns],
    ]
    lines += [[escape_markdown(row[column].text) for column in columns] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape_markdown(text: str) -> str:
    """Make text safe within a line or a cell of Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", " ".join(text.split()))


def file_stem(text: str) -> str:
    """Turn text into lower-case letters, digits and underscores for the name of a file."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def format_interval(interval: Interval | None, digits: int = PSNR.digits, sign: str = "") -> str:
    """Write the ends of an interval; empty if there is none."""
    return "" if interval is None else f"{interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f}"


def giga(count: int) -> str:
    """Write a number of operations in thousand millions."""
    return f"{count / 1e9:.1f}" if count >= 1e9 else f"{count / 1e9:.3f}"


def millions(count: int) -> str:
    """Write a number of parameters in millions."""
    return f"{count / 1e6:.2f}" if count >= 1e6 else f"{count / 1e6:.4f}"


def describe_weights(entry: EntryResult) -> str:
    """Say where the weights come from."""
    if entry.training:
        return f"trained here, {entry.training.iterations} iterations"
    return entry.weights or "none: random"


def _quality_table(results: Results, protocol_id: str) -> Table:
    entries = [(entry, entry.quality) for entry in results.entries if entry.quality]
    entries = [(entry, quality) for entry, quality in entries if quality.protocol_id == protocol_id]
    blurred = next((quality for quality in results.blurred_quality if quality.protocol_id == protocol_id), None)
    rows = [_quality_row(BLURRED, None, blurred, entries[0][0])] if blurred else []
    rows += [_quality_row(entry.label, entry, quality, entries[0][0]) for entry, quality in entries]
    number = len(entries[0][1].frames)
    definitions = ", ".join(metric.note for metric in metric_table.METRICS if metric.note)
    note = (
        f"Means over {number} frames of {results.dataset}, with 95 % bootstrap intervals over scenes. "
        "Differences are paired, frame by frame; not separated: the interval includes 0, or the runs of nets trained "
        f"here with several seeds overlap. {definitions}. Published figures follow the protocols of their papers."
    )
    return Table("quality", f"quality_{file_stem(protocol_id)}", f"Quality by {protocol_id}", note, rows)


def _quality_row(label: str, entry: EntryResult | None, quality: Quality, first: EntryResult) -> Row:
    others = [metric for metric in metric_table.METRICS if metric is not PSNR]
    return {
        "Net": _text("label", label),
        **_interval_cells(PSNR.heading_with_unit, "95 % interval", PSNR.column, quality.psnr, PSNR.digits),
        **_difference_cells(quality.versus_first, first.label, _runs(entry), _runs(first)),
        **{
            metric.heading_with_unit: _interval_cell(metric.column, quality.figures.get(metric.name), metric.digits)
            for metric in others
        },
        "Precision": _text("precision", entry.precision if entry else None),
        "Inference": _text("inference", entry.inference if entry else None),
        "Weights": _text("weights", describe_weights(entry) if entry else None),
        **_published_cells(entry.published if entry else None),
        "Error": _text("error", entry.error if entry else None),
    }


def _runs(entry: EntryResult | None) -> list[float]:
    return entry.training.psnr if entry and entry.training else []


def _difference_cells(
    difference: PairedDifference | None, first: str, runs: Sequence[float], first_runs: Sequence[float]
) -> Row:
    psnr = difference.psnr if difference else None
    counts = [difference.wins, difference.losses, difference.ties] if difference else [None] * 3
    return {
        **_interval_cells(f"Minus {first} (dB)", "Its 95 % interval", "difference_db", psnr, PSNR.digits, "+"),
        "Verdict": _text("verdict", verdict(psnr, runs, first_runs) if psnr else None),
        "Wins, losses, ties": Cell(
            ", ".join(map(str, counts)) if difference else "",
            dict(zip(("wins", "losses", "ties"), counts, strict=True)),
        ),
    }


def _published_cells(published: Published | None) -> Row:
    return {
        "Published PSNR (dB)": _number("published_psnr_db", published.psnr if published else None, PSNR.digits),
        "Published SSIM": _number("published_ssim", published.ssim if published else None, SSIM.digits),
        "Published in": _text("published_in", published.source if published else None),
    }


def _cost_table(results: Results, setting: Setting) -> Table:
    rows = [
        _cost_row(entry, latency)
        for entry in results.entries
        for latency in entry.latencies
        if setting_of(latency) == setting
    ]
    note = (
        "Times of one pass over the batch, synchronised, after warming up: median, tenth and ninetieth percentile. "
        "Throughput counts pictures. Memory is the peak of the device's allocator, weights included."
    )
    return Table("cost", f"cost_{file_stem(str(setting))}", f"Cost on {setting}", note, rows)


def _cost_row(entry: EntryResult, latency: Latency) -> Row:
    macs = [one.macs for one in entry.complexity if (one.height, one.width) == (latency.height, latency.width)]
    return {
        "Net": _text("label", entry.label),
        "Type": _text("dtype", latency.dtype),
        "Mode": _text("mode", latency.mode),
        "Median (ms)": _number("median_ms", latency.median_ms, TIME_DIGITS),
        "p10 (ms)": _number("p10_ms", latency.p10_ms, TIME_DIGITS),
        "p90 (ms)": _number("p90_ms", latency.p90_ms, TIME_DIGITS),
        "Pictures/s": _number("frames_per_second", latency.frames_per_second, TIME_DIGITS),
        "Memory (MiB)": _number("peak_memory_mib", latency.peak_memory_mib, 0),
        "Parameters (M)": _count("parameters", entry.parameters, millions),
        "GMACs a picture": _count("macs", macs[0] if macs else None, giga),
        "Passes": _count("runs", latency.runs, str),
        "Error": _text("error", latency.error or (None if is_steady(latency) else UNSTEADY)),
    }


def _size_table(results: Results) -> Table:
    rows = []
    for entry in results.entries:
        if entry.parameters is not None:
            rows += [_size_row(entry, complexity) for complexity in entry.complexity] or [_size_row(entry, None)]
    note = "Multiply-accumulates of one pass over one picture; each counter has its own idea of what counts."
    return Table("size", "size", "Parameters and arithmetic", note, rows)


def _size_row(entry: EntryResult, complexity: Complexity | None) -> Row:
    width, height = (complexity.width, complexity.height) if complexity else (None, None)
    return {
        "Net": _text("label", entry.label),
        "Parameters (M)": _count("parameters", entry.parameters, millions),
        "Picture": Cell(f"{width}x{height}" if complexity else "", {"width": width, "height": height}),
        "GMACs": _count("macs", complexity.macs if complexity else None, giga),
        "Counted by": _text("counter", complexity.counter if complexity else None),
    }


def _training_table(results: Results, protocol_id: str | None) -> Table:
    rows = [
        _training_row(entry, entry.training)
        for entry in results.entries
        if entry.training and (entry.quality.protocol_id if entry.quality else None) == protocol_id
    ]
    note = (
        "Trained from scratch on the same data. Not separated: the difference to the first net lies within the spread "
        "of the seeds, or the frames do not show it. No verdict without several seeds."
    )
    heading, name = "Training from scratch", "training"
    if protocol_id:
        heading, name = f"{heading}, PSNR by {protocol_id}", f"{name}_{file_stem(protocol_id)}"
    return Table("training", name, heading, note, rows)


def _training_row(entry: EntryResult, training: Training) -> Row:
    listed = " ".join(f"{psnr:.{PSNR.digits}f}" for psnr in training.psnr)
    return {
        "Net": _text("label", entry.label),
        "Iterations": _count("iterations", training.iterations, str),
        "Batch": _count("batch", training.batch, str),
        "Longest run (s)": _number("seconds", training.seconds, 0),
        "Mean PSNR (dB)": _number("psnr_db", statistics.mean(training.psnr) if training.psnr else None, PSNR.digits),
        "PSNR by seed (dB)": _text("psnr_by_seed_db", listed, " ".join(map(repr, training.psnr))),
        "Seeds": _text("seeds", " ".join(map(str, training.seeds))),
        "Verdict": _text("verdict", training.verdict),
    }


def _unmeasured_table(results: Results) -> Table:
    rows = [
        {
            "Net": _text("label", entry.label),
            "Why": _text("error", entry.error or _why_unmeasured(entry)),
            **_published_cells(entry.published),
        }
        for entry in results.entries
        if entry.quality is None
    ]
    note = "Published figures follow the protocols of their papers: do not compare them with measured ones."
    return Table("unmeasured", "not_measured", "Quality not measured here", note, rows)


def _why_unmeasured(entry: EntryResult) -> str:
    return "published figures only" if entry.network is None else "not asked for"


def _text(name: str, text: str | None, value: Value = None) -> Cell:
    return Cell(text or "", {name: value or text})


def _number(name: str, value: float | None, digits: int) -> Cell:
    return Cell("" if value is None else f"{value:.{digits}f}", {name: value})


def _count(name: str, value: int | None, write: Callable[[int], str]) -> Cell:
    return Cell("" if value is None else write(value), {name: value})


def _interval_cell(name: str, interval: Interval | None, digits: int, sign: str = "") -> Cell:
    """The mean for people, its interval beside it for programs."""
    parts = [interval.mean, interval.low, interval.high] if interval else [None] * 3
    text = f"{interval.mean:{sign}.{digits}f}" if interval else ""
    return Cell(text, dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True)))


def _interval_cells(heading: str, ends: str, name: str, interval: Interval | None, digits: int, sign: str = "") -> Row:
    return {
        heading: _interval_cell(name, interval, digits, sign),
        ends: Cell(format_interval(interval, digits, sign), {}),
    }
