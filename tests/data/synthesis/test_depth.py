import numpy as np
import pytest

from macr_plugin.data.synthesis.depth import draw_inverse_depth


def draws(depth, number=20, size=(40, 60)):
    return [draw_inverse_depth(np.random.default_rng(seed), depth, *size) for seed in range(number)]


@pytest.mark.parametrize("depth", ["ground", "slanted", "smooth"])
def test_nearest_is_1_and_nothing_is_behind_infinity(depth):
    drawn = draws(depth)
    for inverse in drawn:
        assert inverse.shape == (40, 60)
        assert inverse.dtype == np.float32
        assert inverse.max() == pytest.approx(1)
        assert 0 <= inverse.min() <= 0.6
    assert len({inverse.tobytes() for inverse in drawn}) == len(drawn)
    np.testing.assert_array_equal(draws(depth, 1)[0], drawn[0])


def test_flat_scene_has_none():
    assert draws("flat", 3) == [None] * 3


def test_ground_comes_nearer_below_the_horizon_and_not_to_the_side():
    heights = set()
    for inverse in draws("ground"):
        np.testing.assert_array_equal(inverse, inverse[:, :1].repeat(60, axis=1))
        steps = np.diff(inverse[:, 0])
        assert (steps >= 0).all()
        rising = np.flatnonzero(steps > 1e-6)
        np.testing.assert_allclose(steps[rising[1:]], steps[-1], rtol=1e-3)
        heights.add(int(rising[0]))
    assert len(heights) > 5


def test_slanted_plane_is_a_plane():
    for inverse in draws("slanted"):
        np.testing.assert_allclose(np.diff(inverse, n=2, axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(np.diff(inverse, n=2, axis=1), 0, atol=1e-5)


def test_smooth_depth_has_gentle_slopes():
    for inverse in draws("smooth", size=(128, 128)):
        # Twenty pixels to either side do not fold it over.
        assert np.abs(np.diff(inverse, axis=0)).max() < 1 / 20
