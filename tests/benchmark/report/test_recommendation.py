import numpy as np
import pytest
from made_up_results import FULL, TILED, frame_qualities, make_results, net, quality_of, timed

from macr_plugin.benchmark.report.charts import scatters
from macr_plugin.benchmark.report.comparability import pareto_front
from macr_plugin.benchmark.report.recommendation import advise, answer, improves, join
from macr_plugin.benchmark.report.tables import all_tables
from macr_plugin.benchmark.results import EntryResult, FrameQuality, Results, Training, is_steady
from macr_plugin.benchmark.runner import compare_with_first

FIRST = frame_qualities(6.0, 1)


def results_of(*entries, blurred=()):
    return Results("title", "2021-07-15", {}, "data", list(blurred), list(entries))


def test_fastest_net_that_is_not_separated_from_the_best_is_picked():
    better = net("slow", 6.03, 1, None, 1_000_000, [timed(90)])
    equal = net("quick", 6.0, 2, FIRST, 9_000_000, [timed(30)])
    worse = net("crude", 3.0, 3, FIRST, 100_000, [timed(5)])
    advice = advise(results_of(better, equal, worse))
    assert [one.label for one in (advice.pick, advice.fastest, advice.smallest)] == ["quick", "crude", "crude"]
    assert [one.label for one in advice.front] == ["crude", "quick", "slow"]
    said = answer(results_of(better, equal, worse))
    assert said.headline == "Use quick."
    assert said.reasons[0].startswith("slow has the highest PSNR")
    assert "is not separated from it and is as fast as slow, or more so." in said.reasons[0], "crude is the fastest"


def test_separated_best_is_picked_however_slow():
    results = results_of(
        net("slow", 6.0, 1, None, 9_000_000, [timed(900)]), net("quick", 5.0, 2, FIRST, 1_000_000, [timed(1)])
    )
    assert advise(results).pick.label == "slow"
    assert "separated from that of every other net; quick comes next" in answer(results).reasons[0]
    assert answer(results).reasons[1] == "quick and slow are each the best at their speed."


def test_without_timings_the_smallest_of_equals_is_picked():
    results = results_of(net("large", 6.0, 1, None, 9_000_000, []), net("small", 6.0, 2, FIRST, 1_000_000, []))
    assert advise(results).pick.label == "small"
    assert "the smallest" in answer(results).reasons[0]
    assert [fact.name for fact in answer(results).facts] == ["Highest PSNR", "Fewest parameters"]


@pytest.mark.parametrize(
    ("slow_runs", "quick_runs", "pick"),
    [
        ([30.0, 31.0], [29.0, 30.1], "quick"),
        ([30.0, 31.0], [29.0, 29.9], "slow"),
        ([30.0], [29.0], "slow"),
    ],
    ids=["runs overlap", "runs are apart", "one run has no spread"],
)
def test_runs_that_overlap_do_not_separate_nets(slow_runs, quick_runs, pick):
    def trained(label, gain, seed, milliseconds, runs):
        training = Training(1000, 60.0, 2, list(range(len(runs))), runs)
        return net(label, gain, seed, None, 1, [timed(milliseconds)], weights=None, training=training)

    results = results_of(trained("slow", 6.0, 1, 90, slow_runs), trained("quick", 5.0, 2, 30, quick_runs))
    assert advise(results).pick.label == pick
    assert ("another seed" in answer(results).caveats[0]) == (len(slow_runs) == 1)


def test_timing_at_another_precision_does_not_count_but_is_mentioned():
    results = results_of(
        net("one", 6.0, 1, None, 1_000_000, [timed(50), timed(7, "bf16", "cuda_graph")]),
        net("two", 6.0, 2, FIRST, 1_000_000, [timed(40)]),
    )
    assert advise(results).fastest.label == "two"
    assert "one takes only 7.00 ms in bf16, cuda_graph" in " ".join(answer(results).caveats)


def test_protocols_and_settings_are_not_mixed():
    results = results_of(
        net("tiled", 9.0, 1, None, 1, [timed(1)], TILED),
        net("one", 6.0, 1, None, 1_000_000, [timed(50), timed(0.1, size=(64, 64))]),
        net("two", 5.0, 2, FIRST, 1_000_000, [timed(40)]),
    )
    advice = advise(results)
    assert advice.protocol_id == FULL
    assert (advice.best.label, advice.fastest.label) == ("one", "two")
    assert (advice.setting.height, advice.setting.width) == (720, 1280)
    assert "tiled: measured by another protocol" in " ".join(answer(results).caveats)


@pytest.mark.parametrize("entries", [[], [EntryResult("only published")], [EntryResult("broken", "MACR", error="why")]])
def test_nothing_measured_is_said(entries):
    assert advise(results_of(*entries)) is None
    assert answer(results_of(*entries)).headline == "No net's quality was measured."


def test_single_net_is_not_compared():
    said = answer(results_of(net("alone", 6.0, 1, None, 1_000_000, [timed(50)])))
    assert said.headline == "alone is the only net measured."
    assert said.reasons == []


def test_nets_that_improve_nothing_are_not_recommended():
    blurred = [quality_of(frame_qualities(8.0, 9))]
    results = results_of(net("one", 6.0, 1, None, 1, []), net("two", 5.0, 2, FIRST, 1, []), blurred=blurred)
    said = answer(results)
    assert said.headline == "None of these nets clearly improves the blurred pictures."
    assert said.reasons == [
        f"They have {blurred[0].psnr.mean:.2f} dB already, and after one, the best net, "
        f"{results.entries[0].quality.psnr.mean:.2f} dB."
    ]


def test_weights_that_say_little_are_mentioned(tmp_path):
    caveats = answer(make_results(tmp_path)).caveats
    assert "RIDNet: trained here for 2000 iterations. More iterations may change the order." in caveats
    assert "Failed: Restormer; the tables say why." in caveats
    random = net("random", 6.0, 1, None, 1_000_000, [], weights=None)
    assert answer(results_of(random)).caveats[0].startswith("random: no weights were loaded")
    changed = net("changed", 6.0, 1, None, 1_000_000, [], changed_options="skip_connections: True, now False")
    assert answer(results_of(changed)).caveats[0] == (
        "changed: its weights were trained with other options (skip_connections: True, now False), so its PSNR is not "
        "what they can achieve."
    )


def test_front_leaves_out_what_is_beaten_and_keeps_equals():
    points = [(5, 30), (1, 20), (2, 20), (1, 19), (5, 30), (6, 30), (9, 31)]
    assert pareto_front(points) == [1, 0, 4, 6]
    assert pareto_front([]) == []


def test_names_are_listed_as_in_a_sentence():
    assert [join(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize(("scenes", "warned"), [(1, False), (2, True), (7, True), (8, False)])
def test_intervals_over_few_scenes_are_not_to_be_relied_on(scenes, warned):
    nets = [
        EntryResult(label, network="MACR", weights="a.pth", quality=quality_of(frame_qualities(gain, 1, scenes)))
        for label, gain in (("better", 6.0), ("worse", 5.0))
    ]
    warning = f"Only {scenes} scenes: intervals over so few are too narrow to be relied on."
    assert (warning in answer(results_of(*nets)).caveats) is warned


def shaky(milliseconds, p10, p90):
    timing = timed(milliseconds)
    timing.p10_ms, timing.p90_ms = p10, p90
    return timing


def test_a_timing_of_a_busy_machine_is_not_compared():
    results = results_of(
        net("mine", 6.0, 1, None, 1_000_000, [shaky(200, 153, 3630)]),
        net("other", 6.0, 2, FIRST, 2_000_000, [timed(400)]),
        net("third", 3.0, 3, FIRST, 2_000_000, [timed(300)]),
    )
    advice = advise(results)
    assert advice.fastest.label == "third"
    assert "mine" not in [one.label for one in advice.front]
    caveats = " ".join(answer(results).caveats)
    assert "mine: its passes took from 153 to 3630 ms" in caveats
    assert "mine: not timed" not in caveats
    latency = next(scatter for scatter in scatters(results) if "latency" in scatter.heading)
    assert latency.left_out == ["mine"]
    cost = next(table for table in all_tables(results) if table.kind == "cost")
    assert [bool(row["Error"].text) for row in cost.rows] == [True, False, False]


@pytest.mark.parametrize(("gain", "recommended"), [(0.05, False), (0.3, True)])
def test_a_gain_that_nobody_sees_is_no_reason_to_use_a_net(gain, recommended):
    frames = frame_qualities(6.0, 1)
    better = [FrameQuality(one.key, {**one.figures, "psnr": one.psnr + gain}) for one in frames]
    entries = [
        EntryResult(label, network="MACR", weights="a.pth", quality=quality_of(better)) for label in ("mine", "b")
    ]
    said = answer(results_of(*entries, blurred=[quality_of(frames)]))
    assert (said.headline == "Use mine.") is recommended


def made_up(seed):
    """Results with nets of any quality, timing, training and reference."""
    draw = np.random.default_rng(seed)
    entries = []
    for number in range(draw.integers(1, 6)):
        runs = [float(run) for run in 30 + draw.normal(0, 0.5, draw.integers(1, 4))]
        training = Training(1000, 60.0, 2, list(range(len(runs))), runs) if draw.random() < 0.5 else None
        median = float(draw.choice([5.0, 20.0, 90.0]))
        latencies = [shaky(median, 0.9 * median, median * draw.choice([1.1, 1.3, 9.0]))] if draw.random() < 0.7 else []
        entries.append(
            net(f"net {number}", draw.choice([-0.1, 0.02, 0.2, 1.0]) + 6, seed + number, None, 10 ** (6 + number % 3),
                latencies, weights=None if training else "a.pth", training=training)
        )  # fmt: skip
    compare_with_first(entries)
    return results_of(*entries, blurred=[quality_of(frame_qualities(6.0, 1))] if draw.random() < 0.7 else [])


@pytest.mark.parametrize("seed", range(60))
def test_advice_never_contradicts_itself(seed):
    results = made_up(seed)
    advice, said = advise(results), answer(results)
    cards = {fact.name: fact.label for fact in said.facts}
    text = " ".join(said.reasons)
    if "the fastest" in text:
        assert cards["Fastest"] == advice.pick.label
    if "the smallest" in text:
        assert cards["Fewest parameters"] == advice.pick.label
    if said.headline.startswith("Use "):
        assert said.headline == f"Use {advice.pick.label}."
        assert improves(advice.pick, advice.blurred)
        assert advice.pick is advice.best or advice.pick in advice.equals
    busy = [entry.label for entry in results.entries for one in entry.latencies if not is_steady(one)]
    assert advice.fastest is None or advice.fastest.label not in busy
    assert not {one.label for one in advice.front} & set(busy)
    # The first net is the reference of all tables: one word for each other net, the same as in the sentence.
    quality = next(table for table in all_tables(results) if table.kind == "quality")
    words = {row["Net"].text: row["Verdict"].text for row in quality.rows if row["Verdict"].text}
    for entry in results.entries[1:]:
        if results.entries[0].training and entry.training and entry.training.verdict:
            assert entry.training.verdict == words[entry.label]
        if advice.best.entry is results.entries[0]:
            assert (words[entry.label] == "lower") != (entry.label in [one.label for one in advice.equals])
