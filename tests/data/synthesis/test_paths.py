import numpy as np
import pytest

from macr_plugin.data.synthesis.paths import draw_camera_path, draw_positions, generator_for

EXTENTS = (0.5, 4.0, 12.0, 30.0)


def paths(extent, number=50):
    return [draw_camera_path(generator_for(0, f"scene/{index}"), extent) for index in range(number)]


@pytest.mark.parametrize("extent", EXTENTS)
def test_path_has_the_extent_asked_for(extent):
    for path in paths(extent):
        assert path.extent == pytest.approx(extent)


@pytest.mark.parametrize("extent", EXTENTS)
def test_path_is_centred_in_place_and_time(extent):
    for path in paths(extent):
        middle = len(path.shift) // 2
        assert len(path.shift) % 2 == 1
        np.testing.assert_array_equal(path.shift[middle], 0)
        assert path.roll[middle] == 0
        np.testing.assert_allclose(path.shift.mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("extent", EXTENTS)
def test_path_is_sampled_finely_and_is_smooth(extent):
    for path in paths(extent):
        steps = np.diff(path.shift, axis=0)
        length = np.linalg.norm(steps, axis=1).sum()
        assert len(path.shift) >= max(9, 3 * length)
        assert np.linalg.norm(steps, axis=1).max() < 1
        assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < 0.35


def test_paths_bend_and_differ():
    drawn = paths(10)
    ratios = [np.linalg.norm(np.diff(path.shift, axis=0), axis=1).sum() / path.extent for path in drawn]
    assert 1.05 < np.median(ratios) < 1.6
    assert max(ratios) < 3
    assert len({path.shift.tobytes() for path in drawn}) == len(drawn)
    headings = np.array([path.shift[-1] - path.shift[0] for path in drawn])
    assert (headings > 0).any(axis=0).all()
    assert (headings < 0).any(axis=0).all()


def test_path_depends_on_seed_and_key_alone():
    first, again = (draw_camera_path(generator_for(3, "a/1"), 8) for _ in range(2))
    np.testing.assert_array_equal(first.shift, again.shift)
    for seed, key in ((4, "a/1"), (3, "a/2")):
        assert not np.array_equal(draw_camera_path(generator_for(seed, key), 8).shift, first.shift)


def test_fewer_subframes_follow_the_same_path():
    fine, coarse = (draw_camera_path(generator_for(0, "a/1"), 8, number) for number in (65, 33))
    assert len(coarse.shift) == len(coarse.roll) == 33
    # Centring and scaling see other points, so the two differ by a fraction of a pixel.
    np.testing.assert_allclose(coarse.shift, fine.shift[::2], atol=0.15)


def test_positions_are_those_of_the_camera():
    positions = draw_positions(generator_for(3, "a/1"), 8, 65)
    np.testing.assert_array_equal(positions, draw_camera_path(generator_for(3, "a/1"), 8).shift)
