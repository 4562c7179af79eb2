"""What may be compared with what."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from macr_plugin.benchmark.results import EntryResult, Latency, Quality, Results, is_steady


@dataclasses.dataclass(frozen=True)
class Setting:
    """What timings have to share to be compared.

    Attributes:
        device: Its full name.
        height: Of the pictures, in pixels.
        width: Of the pictures, in pixels.
        batch: Pictures at once.
    """

    device: str
    height: int
    width: int
    batch: int

    def __str__(self) -> str:
        """Describe the setting to people."""
        return f"{self.device}, {self.width}x{self.height}, batch {self.batch}"


@dataclasses.dataclass
class Measured:
    """An entry whose quality was measured.

    Attributes:
        entry: What was recorded of it.
        quality: Its scores on the frames of the test.
        latency: Its fastest steady timing at the precision that the quality was measured with, or None.
    """

    entry: EntryResult
    quality: Quality
    latency: Latency | None

    @property
    def label(self) -> str:
        """Name of the entry."""
        return self.entry.label

    @property
    def psnr(self) -> float:
        """Mean PSNR in dB."""
        return self.quality.psnr.mean

    @property
    def milliseconds(self) -> float | None:
        """Median time of a pass."""
        return self.latency.median_ms if self.latency else None


def protocols(results: Results) -> list[str]:
    """Protocols by which entries were measured: that of most entries first, then in the entries' order."""
    counts = Counter(entry.quality.protocol_id for entry in results.entries if entry.quality)
    return [protocol_id for protocol_id, _ in counts.most_common()]


def settings(results: Results) -> list[Setting]:
    """Settings in which entries were timed: that of most entries first, the largest picture first among equals."""
    timed = [dict.fromkeys(map(setting_of, entry.latencies)) for entry in results.entries]
    counts = Counter(setting for entry_settings in timed for setting in entry_settings)
    return sorted(counts, key=lambda setting: (-counts[setting], -setting.height * setting.width))


def setting_of(latency: Latency) -> Setting:
    """Setting of a timing."""
    return Setting(latency.device, latency.height, latency.width, latency.batch)


def measured_entries(results: Results, protocol_id: str, setting: Setting | None) -> list[Measured]:
    """Entries measured by a protocol, each with its timing in a setting.

    A timing counts only at the precision of the quality measurement: a picture restored in bfloat16 is another one.

    Args:
        results: The benchmark.
        protocol_id: The protocol.
        setting: The setting, or None for no timings.

    Returns:
        The entries, in the user's order.
    """
    return [
        Measured(entry, entry.quality, _fastest_timing(entry, setting))
        for entry in results.entries
        if entry.quality and entry.quality.protocol_id == protocol_id
    ]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Find the points that no other point beats.

    Args:
        points: Cost, the lower the better, and quality, the higher the better.

    Returns:
        Indices of those for which no other point is at least as good in both and better in one, cheapest first.
    """

    def beaten(cost: float, quality: float) -> bool:
        return any(other <= cost and value >= quality and (other, value) != (cost, quality) for other, value in points)

    return sorted((i for i, point in enumerate(points) if not beaten(*point)), key=lambda i: points[i])


def _fastest_timing(entry: EntryResult, setting: Setting | None) -> Latency | None:
    timed = [
        (latency.median_ms, latency)
        for latency in entry.latencies
        if latency.median_ms is not None and setting_of(latency) == setting and latency.dtype == entry.precision
        if is_steady(latency)
    ]
    return min(timed, key=lambda pair: pair[0])[1] if timed else None
