"""Answers "which net should I use?" from what was measured, in plain words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from macr_plugin.benchmark.measuring.intervals import is_separated, paired_difference, verdict
from macr_plugin.benchmark.report.comparability import (
    Measured,
    Setting,
    measured_entries,
    pareto_front,
    protocols,
    setting_of,
    settings,
)
from macr_plugin.benchmark.report.tables import millions
from macr_plugin.benchmark.results import Latency, Quality, Results, is_steady

# Below this the percentile bootstrap draws from a handful of combinations only.
FEW_SCENES = 8
# In dB: a smaller gain over the blurred pictures is not seen.
CLEAR_GAIN = 0.1


@dataclasses.dataclass
class Advice:
    """Answer to "which net should I use?".

    Attributes:
        protocol_id: Of the PSNR that it rests on.
        setting: Of the timings that it rests on; None without timings.
        nets: All that were compared, in the user's order.
        blurred: Quality of the blurred input by that protocol, or None if unknown.
        pick: What to use: among the nets that the data do not separate from the best and that improve the blurred
            pictures, the fastest, or without timings the smallest.
        best: Highest PSNR.
        equals: The nets that are not separated from the best, itself left out: the interval of the paired difference
            includes 0, or both were trained here with several seeds and their runs overlap.
        fastest: Lowest latency, or None without timings.
        smallest: Fewest parameters, or None if nobody counted.
        front: Nets that no other net beats in PSNR and latency together, fastest first.
    """

    protocol_id: str
    setting: Setting | None
    nets: list[Measured]
    blurred: Quality | None
    pick: Measured
    best: Measured
    equals: list[Measured]
    fastest: Measured | None
    smallest: Measured | None
    front: list[Measured]


@dataclasses.dataclass
class Fact:
    """One net that stands out.

    Attributes:
        name: In what.
        label: The net.
        figure: Its figure with the unit.
        detail: How it was measured.
    """

    name: str
    label: str
    figure: str
    detail: str


@dataclasses.dataclass
class Answer:
    """An advice in words.

    Attributes:
        headline: The answer itself.
        reasons: Sentences that say why.
        facts: The nets that stand out.
        caveats: Sentences that say what to mind.
    """

    headline: str
    reasons: list[str]
    facts: list[Fact]
    caveats: list[str]


def advise(results: Results) -> Advice | None:
    """Choose a net.

    Args:
        results: The benchmark.

    Returns:
        The choice with its reasons, by the protocol and in the setting that most entries share; None if no quality was
        measured.
    """
    if not (ids := protocols(results)):
        return None
    setting = next(iter(settings(results)), None)
    nets = measured_entries(results, ids[0], setting)
    best = max(nets, key=lambda net: net.psnr)
    equals = [net for net in nets if net is not best and not _is_worse(net, best)]
    timed = [(net.milliseconds, net) for net in nets if net.milliseconds is not None]
    counted = [(net.entry.parameters, net) for net in nets if net.entry.parameters is not None]
    blurred = next((one for one in results.blurred_quality if one.protocol_id == ids[0]), None)
    candidates = [best, *(net for net in equals if improves(net, blurred))]
    costs = [pair for pair in timed if pair[1] in candidates] or [pair for pair in counted if pair[1] in candidates]
    return Advice(
        protocol_id=ids[0],
        setting=setting if timed else None,
        nets=nets,
        blurred=blurred,
        pick=min(costs, key=lambda pair: pair[0])[1] if costs else best,
        best=best,
        equals=equals,
        fastest=min(timed, key=lambda pair: pair[0])[1] if timed else None,
        smallest=min(counted, key=lambda pair: pair[0])[1] if counted else None,
        front=[timed[i][1] for i in pareto_front([(cost, net.psnr) for cost, net in timed])],
    )


def answer(results: Results) -> Answer:
    """Say which net to use.

    Args:
        results: The benchmark.

    Returns:
        The answer, also where nothing was measured.
    """
    advice = advise(results)
    failed = [entry.label for entry in results.entries if entry.error]
    failures = [f"Failed: {join(failed)}; the tables say why."] if failed else []
    if advice is None:
        return Answer("No net's quality was measured.", [], [], failures)
    return Answer(_headline(advice), _reasons(advice), _facts(advice), [*_caveats(advice, results), *failures])


def improves(net: Measured, blurred: Quality | None) -> bool:
    """Whether a net's pictures are better than the blurred ones by what can be seen, and separated from them.

    Args:
        net: An entry whose quality was measured.
        blurred: Quality of the blurred pictures; None if unknown, which answers yes.
    """
    if blurred is None:
        return True
    gain = paired_difference(net.quality.frames, blurred.frames).psnr
    return gain.mean >= CLEAR_GAIN and is_separated(gain)


def join(names: Sequence[str]) -> str:
    """List names in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _is_worse(net: Measured, best: Measured) -> bool:
    """Whether the frames separate a net from the best and, of nets trained here with several seeds, the runs do too."""
    runs, best_runs = (one.entry.training.psnr if one.entry.training else [] for one in (net, best))
    return verdict(paired_difference(net.quality.frames, best.quality.frames).psnr, runs, best_runs) == "lower"


def _headline(advice: Advice) -> str:
    if not improves(advice.best, advice.blurred):
        return "None of these nets clearly improves the blurred pictures."
    if len(advice.nets) == 1:
        return f"{advice.best.label} is the only net measured."
    return f"Use {advice.pick.label}."


def _reasons(advice: Advice) -> list[str]:
    if advice.blurred and not improves(advice.best, advice.blurred):
        after = f"after {advice.best.label}, the best net, {advice.best.psnr:.2f} dB"
        return [f"They have {advice.blurred.psnr.mean:.2f} dB already, and {after}."]
    if len(advice.nets) == 1:
        return []
    reasons = [_why_best(advice)]
    front = [net for net in advice.front if improves(net, advice.blurred)]
    if len(front) > 1:
        others = sum(net.milliseconds is not None for net in advice.nets) > len(advice.front)
        reasons.append(
            f"{join([net.label for net in front])} are each the best at their speed"
            + ("; every other net is neither faster nor better than one of these." if others else ".")
        )
    return reasons


def _why_best(advice: Advice) -> str:
    best, pick = advice.best, advice.pick
    if not advice.equals:
        second = max((net for net in advice.nets if net is not best), key=lambda net: net.psnr)
        return (
            f"{best.label} has the highest PSNR, {best.psnr:.2f} dB, separated from that of every other net; "
            f"{second.label} comes next with {second.psnr:.2f} dB."
        )
    if pick is best:
        return (
            f"{best.label} has the highest PSNR, {best.psnr:.2f} dB, though not separated from that of "
            f"{join([net.label for net in advice.equals])}{_cost_of_pick(advice, '; it is')}."
        )
    return (
        f"{best.label} has the highest PSNR, {best.psnr:.2f} dB, but {pick.label} with {pick.psnr:.2f} dB is not "
        f"separated from it{_cost_of_pick(advice, ' and is')}."
    )


def _cost_of_pick(advice: Advice, start: str) -> str:
    """Compare the pick with the nets that might have been picked; ``the fastest`` is said of one net only."""
    pick, others = advice.pick, [net for net in (advice.best, *advice.equals) if net is not advice.pick]
    by_time = pick.milliseconds is not None
    if pick is (advice.fastest if by_time else advice.smallest):
        return f"{start} {'the fastest' if by_time else 'the smallest'}"
    costs = [net.milliseconds if by_time else net.entry.parameters for net in others]
    dearer = [net.label for net, cost in zip(others, costs, strict=True) if cost is not None]
    return f"{start} {'as fast as' if by_time else 'as small as'} {join(dearer)}, or more so" if dearer else ""


def _facts(advice: Advice) -> list[Fact]:
    best, fastest, smallest = advice.best, advice.fastest, advice.smallest
    facts = [Fact("Highest PSNR", best.label, f"{best.psnr:.2f} dB", advice.protocol_id)]
    if fastest and fastest.latency:
        detail = f"{fastest.latency.dtype}, {fastest.latency.mode}; {advice.setting}"
        facts.append(Fact("Fastest", fastest.label, f"{fastest.milliseconds:.2f} ms", detail))
    if smallest and smallest.entry.parameters:
        detail = f"{smallest.psnr:.2f} dB"
        facts.append(Fact("Fewest parameters", smallest.label, f"{millions(smallest.entry.parameters)} M", detail))
    return facts


def _caveats(advice: Advice, results: Results) -> list[str]:
    caveats = []
    labels = [net.label for net in advice.nets]
    trained = [net for net in advice.nets if net.entry.training]
    untrained = [net.label for net in advice.nets if not net.entry.training and not net.entry.weights]
    elsewhere = [entry.label for entry in results.entries if entry.quality and entry.label not in labels]
    unsteady = {net.label: timings for net in advice.nets if (timings := _unsteady(net, results))}
    untimed = [net.label for net in advice.nets if net.milliseconds is None and net.label not in unsteady]
    if untrained:
        caveats.append(f"{join(untrained)}: no weights were loaded, so PSNR says nothing about the architecture.")
    caveats += [
        f"{net.label}: its weights were trained with other options ({net.entry.changed_options}), so its PSNR is not "
        "what they can achieve."
        for net in advice.nets
        if net.entry.changed_options
    ]
    if trained:
        iterations = sorted({net.entry.training.iterations for net in trained if net.entry.training})
        span = " to ".join(map(str, dict.fromkeys((iterations[0], iterations[-1]))))
        seeds = min(len(net.entry.training.seeds) for net in trained if net.entry.training)
        more = "More iterations" if seeds > 1 else "More iterations or another seed"
        names = join([net.label for net in trained])
        caveats.append(f"{names}: trained here for {span} iterations. {more} may change the order.")
    scenes = {frame.key.rpartition("/")[0] for net in advice.nets for frame in net.quality.frames}
    if 1 < len(scenes) < FEW_SCENES:
        caveats.append(f"Only {len(scenes)} scenes: intervals over so few are too narrow to be relied on.")
    if elsewhere:
        caveats.append(f"{join(elsewhere)}: measured by another protocol, therefore not compared here.")
    caveats += [
        f"{label}: its passes took from {timing.p10_ms:.0f} to {timing.p90_ms:.0f} ms in {timing.dtype}, {timing.mode} "
        "(p10 to p90). The machine was busy: this timing is not compared, measure it again."
        for label, timings in unsteady.items()
        for timing in timings
    ]
    caveats += _faster_elsewhere(advice)
    if untimed and advice.setting:
        caveats.append(f"{join(untimed)}: not timed at the precision of the quality measurement on {advice.setting}.")
    return caveats


def _unsteady(net: Measured, results: Results) -> list[Latency]:
    """Timings of a net in the setting that is compared whose passes differ too much."""
    setting = next(iter(settings(results)), None)
    return [one for one in net.entry.latencies if setting_of(one) == setting and not is_steady(one)]


def _faster_elsewhere(advice: Advice) -> list[str]:
    """Mention the fastest timing of all, where no quality goes with it."""
    timed = [
        (latency.median_ms, net.label, latency)
        for net in advice.nets
        for latency in net.entry.latencies
        if latency.median_ms is not None and setting_of(latency) == advice.setting and is_steady(latency)
    ]
    if not timed:
        return []
    milliseconds, label, latency = min(timed, key=lambda one: one[0])
    if advice.fastest and milliseconds == advice.fastest.milliseconds:
        return []
    how = f"{milliseconds:.2f} ms in {latency.dtype}, {latency.mode}"
    return [f"{label} takes only {how}, but its quality was not measured at that precision."]
