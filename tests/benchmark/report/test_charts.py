import math

import pytest
from made_up_results import FULL, make_results

from macr_plugin.benchmark.report.charts import BOTTOM, LEFT, RIGHT, TOP, logarithmic_ticks, scatters, strips
from macr_plugin.line_chart import round_ticks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize(("low", "high"), [(29.9, 33.1), (30, 30), (-0.031, 0.004), (0, 1111), (-5, -4.99)])
def test_round_ticks_enclose_the_values_with_few_round_numbers(low, high):
    ticks = round_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8
    digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digit - round_digit) for round_digit in (1, 2, 5)) < 1e-6


@pytest.mark.parametrize(("low", "high"), [(7.9, 451.7), (21, 21), (0.2, 0.21), (1, 1000), (99, 101)])
def test_logarithmic_ticks_enclose_the_values(low, high):
    ticks = logarithmic_ticks(low, high)
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert ticks[0] > low / 10
    assert ticks[-1] < high * 10


def test_points_lie_where_their_figures_are_between_the_ticks(results):
    latency, parameters = scatters(results)
    assert "latency" in latency.heading
    assert FULL in latency.heading
    assert "parameters" in parameters.heading
    assert all(LEFT <= tick.place <= RIGHT for tick in latency.x_ticks)
    assert all(TOP <= tick.place <= BOTTOM for tick in latency.y_ticks)
    by_label = {point.label: point for point in latency.points}
    first, last = latency.x_ticks[0], latency.x_ticks[-1]
    share = math.log(51.6 / float(first.text)) / math.log(float(last.text) / float(first.text))
    assert by_label["MACR"].x == pytest.approx(first.place + share * (last.place - first.place), abs=1e-3)
    assert by_label["MACR"].high < by_label["MACR"].y < by_label["MACR"].low
    assert "fp32, eager" in by_label["MACR"].description, "quality was measured in fp32: the bf16 timing is not its own"


def test_front_is_what_nobody_beats(results):
    latency, parameters = scatters(results)
    assert [point.label for point in latency.front] == ["RIDNet", "NAFNet-32"]
    assert [point.label for point in parameters.front] == ["RIDNet", "MACR", "NAFNet-32"]
    assert {point.label for point in latency.points if point.on_front} == {"RIDNet", "NAFNet-32"}


def test_entries_without_the_cost_are_named(results):
    results.entries[1].parameters = None
    try:
        assert scatters(results)[-1].left_out == ["NAFNet-32"]
    finally:
        results.entries[1].parameters = 17_110_000


def test_strips_show_every_frame_against_the_first_entry(results):
    difference, psnr = strips(results)
    assert [row.label for row in psnr.rows] == ["MACR", *(row.label for row in difference.rows)]
    first, second = (
        {frame.key: frame.psnr for frame in entry.quality.frames} for entry in (results.entries[0], results.entries[1])
    )
    assert difference.keys == list(first)
    assert difference.rows[0].values == pytest.approx([second[key] - first[key] for key in first], abs=5e-4)
    assert all(0 <= place <= 100 for strip in (difference, psnr) for row in strip.rows for place in row.places)
    signs = [(place > difference.zero) - (place < difference.zero) for place in difference.rows[0].places]
    assert signs == [(value > 0) - (value < 0) for value in difference.rows[0].values]
    assert psnr.zero is None
