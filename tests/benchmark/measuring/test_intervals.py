import math

import numpy as np
import pytest
from scipy import stats

from macr_plugin.benchmark.measuring.intervals import is_separated, paired_difference, scene_interval, verdict_of_runs
from macr_plugin.benchmark.results import FrameQuality, Interval


def frames(**psnr):
    return [FrameQuality(key.replace("_", "/"), {"psnr": value}) for key, value in psnr.items()]


def test_two_scenes_give_their_own_means_as_ends():
    """Each is drawn twice in a quarter of the resamples, well above 2.5 %."""
    interval = scene_interval([1, 3, 10, 10, 10, 10], ["a/1", "a/2", "b/1", "b/2", "b/3", "b/4"])
    assert interval == Interval(pytest.approx(44 / 6), 2, 10)


def test_interval_agrees_with_scipy_where_each_scene_has_one_frame():
    values = np.random.default_rng(3).normal(30, 2, 60)
    ours = scene_interval(values.tolist(), [f"scene{number}/0" for number in range(60)])
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.05)


def test_frames_that_resemble_each_other_within_a_scene_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).normal(30, 2, 8), 20).tolist()
    by_scene = scene_interval(values, [f"scene{number // 20}/{number}" for number in range(160)])
    by_frame = scene_interval(values, [f"scene{number}/0" for number in range(160)])
    assert by_scene.high - by_scene.low > 3 * (by_frame.high - by_frame.low)


def test_single_scene_has_an_interval_over_its_frames():
    interval = scene_interval([1.0, 2.0, 3.0, 4.0], [f"a/{number}" for number in range(4)])
    assert interval.low < interval.mean < interval.high
    assert interval == scene_interval([1.0, 2.0, 3.0, 4.0], [f"b/{number}" for number in range(4)])


def test_single_frame_is_its_own_interval():
    assert scene_interval([30.5], ["a/1"]) == Interval(30.5, 30.5, 30.5)


def test_difference_is_paired_by_key_and_counts_ties():
    difference = paired_difference(frames(a_1=31, a_2=30, b_1=29, b_2=40), frames(b_1=30, a_2=30, a_1=30, c_9=99))
    assert (difference.wins, difference.losses, difference.ties) == (1, 1, 1)
    assert difference.psnr.mean == 0


def test_perfect_frames_of_both_are_ties():
    difference = paired_difference(frames(a_1=math.inf, b_1=31), frames(a_1=math.inf, b_1=30))
    assert (difference.wins, difference.losses, difference.ties) == (1, 0, 1)
    assert difference.psnr.mean == 0.5


@pytest.mark.parametrize(
    ("low", "high", "separated"), [(0.1, 2, True), (-2, -0.1, True), (-1, 1, False), (0, 1, False)]
)
def test_separated_means_that_the_interval_excludes_zero(low, high, separated):
    assert is_separated(Interval((low + high) / 2, low, high)) is separated


@pytest.mark.parametrize(
    ("psnr", "first", "expected"),
    [
        ([30.1, 30.2], [29.8, 30.0], "higher"),
        ([29.1, 29.2], [29.8, 30.0], "lower"),
        ([29.9, 31.0], [29.8, 30.0], "not separated"),
        ([30.0, 31.0], [29.8, 30.0], "not separated"),
        ([35.0], [29.8], "not separated"),
        ([35.0, 36.0], [29.8], "not separated"),
    ],
)
def test_what_lies_within_the_spread_of_the_seeds_is_not_separated(psnr, first, expected):
    assert verdict_of_runs(psnr, first) == expected
