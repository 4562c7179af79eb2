import math

import pytest
from made_up_results import FULL, make_results

from macr_plugin.benchmark.report.charts import Axis, logarithmic_ticks, scatters, strips
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


def test_points_have_their_figures_between_the_ends_of_the_axes(results):
    latency, parameters = scatters(results)
    assert "latency" in latency.heading
    assert FULL in latency.heading
    assert "parameters" in parameters.heading
    for scatter in (latency, parameters):
        for axis, figures in (
            (scatter.x, [point.cost for point in scatter.points]),
            (scatter.y, [end for point in scatter.points for end in (point.low, point.psnr, point.high)]),
        ):
            assert axis.low == axis.ticks[0].value
            assert axis.high == axis.ticks[-1].value
            assert [float(tick.text) for tick in axis.ticks] == pytest.approx([tick.value for tick in axis.ticks])
            assert all(axis.low <= figure <= axis.high for figure in figures)
    by_label = {point.label: point for point in latency.points}
    quality = results.entries[0].quality.psnr
    macr = by_label["MACR"]
    assert (macr.cost, macr.low, macr.psnr, macr.high) == (51.6, quality.low, quality.mean, quality.high)
    assert [point.cost for point in parameters.points if point.label == "MACR"] == [4.01]
    assert "fp32, eager" in macr.description, "quality was measured in fp32: the bf16 timing is not its own"


def test_an_axis_tells_how_far_along_it_a_value_lies():
    assert [Axis("dB", 28, 32, []).share(value) for value in (28, 29, 32)] == [0, 0.25, 1]
    shares = [Axis("ms", 0.5, 50, [], logarithmic=True).share(value) for value in (0.5, 5, 50)]
    assert shares == pytest.approx([0, 0.5, 1])


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
    for strip in (difference, psnr):
        assert all(strip.axis.low < value < strip.axis.high for row in strip.rows for value in (*row.values, row.mean))
    assert difference.axis.low < 0 < difference.axis.high
    assert [tick.text for tick in difference.axis.ticks if tick.value == 0] == ["0"]
    assert psnr.rows[0].mean == pytest.approx(results.entries[0].quality.psnr.mean)
