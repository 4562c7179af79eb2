"""What a benchmark measured: plain records that the measuring fills, the report reads and a JSON file keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from macr_plugin.errors import InputError

#: Above this ratio of the ninetieth to the tenth percentile, a median says more about the machine than about the net.
STEADY_SPREAD = 1.5
#: Field whose entries stand among the fields of its record in JSON.
FIGURES = "figures"


@dataclasses.dataclass
class Interval:
    """A mean with its 95 % bootstrap interval over scenes.

    Attributes:
        mean: Mean over all frames.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


@dataclasses.dataclass
class FrameQuality:
    """Quality of one restored frame.

    Attributes:
        key: ``scene/frame``.
        figures: Name of each metric of :data:`macr_plugin.metrics.metric_table.METRICS` to its value.
    """

    key: str
    figures: dict[str, float]

    @property
    def psnr(self) -> float:
        """The figure that networks are compared by, in dB."""
        return self.figures["psnr"]


@dataclasses.dataclass
class PairedDifference:
    """PSNR of an entry minus that of the first entry with the same protocol, frame by frame.

    Attributes:
        psnr: Mean difference in dB with its interval.
        wins: Frames on which this entry is better.
        losses: Frames on which it is worse.
        ties: Frames on which both are equal.
    """

    psnr: Interval
    wins: int
    losses: int
    ties: int


@dataclasses.dataclass
class Quality:
    """Quality of an entry over a data set.

    Attributes:
        protocol_id: Names how it was measured, such as ``blur/full/uint8/rgb/mean``; figures of different protocols
            must not be compared.
        figures: Name of each metric to its mean; one that a run of before did not measure is missing.
        frames: Each frame.
        versus_first: None for the first entry of the protocol.
    """

    protocol_id: str
    figures: dict[str, Interval]
    frames: list[FrameQuality]
    versus_first: PairedDifference | None = None

    @property
    def psnr(self) -> Interval:
        """The figure that networks are compared by, in dB."""
        return self.figures["psnr"]


@dataclasses.dataclass
class Latency:
    """Speed and memory of an entry at one size in one mode.

    Attributes:
        device: Its full name.
        dtype: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        mode: ``eager``, ``compiled``, ``cuda_graph`` or ``optimized``.
        batch: Pictures at once.
        height: In pixels.
        width: In pixels.
        runs: Measured passes.
        median_ms: Median time of a pass in milliseconds, synchronised; None after an error.
        p10_ms: Tenth percentile.
        p90_ms: Ninetieth percentile.
        frames_per_second: Throughput.
        peak_memory_mib: Peak of the device's allocator, weights included; None where it cannot be known.
        error: Why nothing was measured.
    """

    device: str
    dtype: str
    mode: str
    batch: int
    height: int
    width: int
    runs: int
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    frames_per_second: float | None = None
    peak_memory_mib: float | None = None
    error: str | None = None


def is_steady(latency: Latency) -> bool:
    """Whether the passes of a timing took about equally long, so that its median may be compared with others."""
    if latency.p10_ms is None or latency.p90_ms is None:
        return True
    return latency.p90_ms <= STEADY_SPREAD * latency.p10_ms


@dataclasses.dataclass
class Complexity:
    """Multiply-accumulates of one pass over one picture.

    Attributes:
        height: In pixels.
        width: In pixels.
        macs: Multiply-accumulates.
        counter: Who counted, such as ``torch.utils.flop_counter``.
    """

    height: int
    width: int
    macs: int
    counter: str


@dataclasses.dataclass
class Training:
    """Training of an entry from scratch before it was measured.

    Attributes:
        iterations: Steps of each run; the fewest, where a time budget ended them.
        seconds: Longest run.
        batch: Pictures in a step.
        seeds: One run for each.
        psnr: Mean PSNR after each run in dB, in the order of the seeds.
        verdict: Against the first entry: ``higher``, ``lower`` or ``not separated``; None for the first entry, and
            where one of the two has a single run.
    """

    iterations: int
    seconds: float
    batch: int
    seeds: list[int]
    psnr: list[float]
    verdict: str | None = None


@dataclasses.dataclass
class Published:
    """Figures that a paper states, by its own protocol.

    Attributes:
        psnr: In dB.
        ssim: By the paper's own definition.
        source: Paper and table.
    """

    psnr: float | None
    ssim: float | None
    source: str


@dataclasses.dataclass
class EntryResult:
    """One row of the benchmark.

    Attributes:
        label: Unique name.
        network: Registered name; None for an entry with published figures only.
        options: The network's options.
        weights: Path of the weights, or None.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``, of the quality measurement.
        inference: ``full`` frame, or how it was cut, such as ``tile 256 overlap 32``.
        parameters: Number of them.
        complexity: At each size.
        quality: None if not measured.
        latencies: At each size, precision and mode.
        training: None if the entry was not trained here.
        published: None if there are no such figures.
        changed_options: In which options the network differs from that which the weights were trained with, if it does.
        error: Why the entry failed, in one sentence; what was measured before is kept.
    """

    label: str
    network: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = None
    precision: str = "fp32"
    inference: str = "full"
    parameters: int | None = None
    complexity: list[Complexity] = dataclasses.field(default_factory=list)
    quality: Quality | None = None
    latencies: list[Latency] = dataclasses.field(default_factory=list)
    training: Training | None = None
    published: Published | None = None
    changed_options: str | None = None
    error: str | None = None


@dataclasses.dataclass
class ComparedFrame:
    """Pictures of one frame, to look at; paths are relative to the results' folder, lossless PNG, RGB uint8.

    Attributes:
        key: ``scene/frame``.
        blurred: Path.
        sharp: Path.
        restored: Label of each entry to the path.
        extra: What networks show beside the restored picture, of any size: label and name to the path.
    """

    key: str
    blurred: str
    sharp: str
    restored: dict[str, str]
    extra: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Results:
    """A whole benchmark.

    Attributes:
        title: For the head of the report.
        created: Date and time, ISO 8601.
        environment: Name to version or device, such as ``torch`` to ``2.14.1``.
        dataset: Name of the data set, as the user calls it.
        blurred_quality: Quality of the blurred input itself, by each protocol that occurs.
        entries: In the user's order.
        pictures: Frames to look at.
    """

    title: str
    created: str
    environment: dict[str, str]
    dataset: str
    blurred_quality: list[Quality]
    entries: list[EntryResult]
    pictures: list[ComparedFrame] = dataclasses.field(default_factory=list)


def to_json(record: Any) -> str:
    """Write a record of this module as JSON text; the figures of a record stand among its fields there."""
    return json.dumps(dataclasses.asdict(record, dict_factory=_among_fields), indent=1)


def _among_fields(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in fields:
        plain.update(value if name == FIGURES else {name: value})
    return plain


def read_json(kind: type, path: Path) -> Any:
    """Read a record that :func:`to_json` wrote.

    Args:
        kind: Class of the record.
        path: The file.

    Raises:
        InputError: If the file is damaged or from another version.
    """
    try:
        return _from_plain(kind, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} holds no benchmark results of this version ({error}): delete it") from error


def _from_plain(kind: Any, value: Any) -> Any:
    """Rebuild records from dictionaries and lists."""
    if value is None:
        return None
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        if FIGURES in hints:
            figures = {name: part for name, part in value.items() if name not in hints}
            value = {name: part for name, part in value.items() if name in hints} | {FIGURES: figures}
        return kind(**{name: _from_plain(hints[name], part) for name, part in value.items()})  # type: ignore[operator]
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    if isinstance(value, list):
        return [_from_plain(arguments[0], part) for part in value]
    if get_origin(kind) is dict and dataclasses.is_dataclass(arguments[1]):
        return {name: _from_plain(arguments[1], part) for name, part in value.items()}
    record = next((argument for argument in arguments if dataclasses.is_dataclass(argument)), None)
    return value if record is None else _from_plain(record, value)
