import cv2
import numpy as np
import pytest

from macr_plugin.data.synthesis.blur_model import Shot
from macr_plugin.data.synthesis.paths import CameraPath, border_margin, draw_camera_path, generator_for
from macr_plugin.data.synthesis.rendering import Window, render_pair
from macr_plugin.data.synthesis.response import decode, encode
from macr_plugin.errors import InputError

EXTENTS = (0.5, 4.0, 12.0, 30.0)


def textured(height=90, width=120, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1)


def path_of(*positions):
    return CameraPath(np.array(positions, float), np.zeros(len(positions)))


def paths(extent, number=50):
    return [draw_camera_path(generator_for(0, f"scene/{index}"), extent) for index in range(number)]


def middle_window(photo, extent):
    margin = border_margin(extent, *photo.shape[:2])
    return Window(margin, margin, photo.shape[0] - 2 * margin, photo.shape[1] - 2 * margin)


def test_srgb_round_trip_is_exact_and_follows_the_standard():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode(decode(levels, "linear"), "linear"), levels)
    # IEC 61966-2-1: half of the light is 188 of 255; 10 of 255 lies on the linear part.
    assert encode(np.float32([0.5]), "linear") == 188
    np.testing.assert_allclose(decode(np.uint8([10]), "linear"), 10 / 255 / 12.92, rtol=1e-6)


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


def test_camera_at_rest_blurs_nothing():
    photo = textured()
    path = draw_camera_path(generator_for(0, "a/1"), 0)
    blur, sharp = render_pair(photo, Shot(path), middle_window(photo, 0))
    np.testing.assert_array_equal(blur, sharp)


def test_sharp_picture_is_an_exact_cut_out():
    photo = textured()
    _, sharp = render_pair(photo, Shot(paths(6)[0]), Window(20, 25, 40, 60))
    np.testing.assert_array_equal(sharp, photo[20:60, 25:85])
    assert not np.shares_memory(sharp, photo)


def test_average_is_taken_in_linear_light():
    photo = np.zeros((40, 64, 3), np.uint8)
    photo[:, 32] = 255
    blur, _ = render_pair(photo, Shot(path_of((-4, 0), (0, 0), (4, 0))), Window(12, 12, 16, 40))
    third = encode(np.float32([1 / 3]), "linear")[0]
    expected = np.zeros((16, 40, 3), np.uint8)
    expected[:, (16, 20, 24)] = third
    assert third == 156
    np.testing.assert_array_equal(blur, expected)


def test_average_of_encoded_values():
    photo = np.zeros((40, 64, 3), np.uint8)
    photo[:, 32] = 255
    blur, sharp = render_pair(photo, Shot(path_of((-4, 0), (0, 0), (4, 0)), "encoded"), Window(12, 12, 16, 40))
    expected = np.zeros((16, 40, 3), np.uint8)
    expected[:, (16, 20, 24)] = 85
    np.testing.assert_array_equal(blur, expected)
    np.testing.assert_array_equal(sharp, photo[12:28, 12:52])


def test_fewer_subframes_follow_the_same_path():
    fine, coarse = (draw_camera_path(generator_for(0, "a/1"), 8, number) for number in (65, 33))
    assert len(coarse.shift) == len(coarse.roll) == 33
    # Centring and scaling see other points, so the two differ by a fraction of a pixel.
    np.testing.assert_allclose(coarse.shift, fine.shift[::2], atol=0.15)


def test_camera_that_looks_right_moves_the_picture_left():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[18, 30] = 255
    blur, _ = render_pair(photo, Shot(path_of((0, 0), (0, 0), (5, 3))), Window(10, 10, 20, 40))
    assert {(row, column) for row, column in np.argwhere(blur[..., 0])} == {(8, 20), (5, 15)}


@pytest.mark.parametrize("extent", [4.0, 12.0])
def test_blur_of_a_dot_is_centred_on_the_dot(extent):
    photo = np.zeros((101, 101, 3), np.uint8)
    photo[50, 50] = 255
    photo = cv2.GaussianBlur(photo, (0, 0), 3)
    # Scaled up, so that rounding to 8 bits moves nothing.
    photo = (photo.astype(float) * 255 / photo.max()).astype(np.uint8)
    rows, columns = np.mgrid[:61, :61]
    for path in paths(extent, 12):
        light = decode(render_pair(photo, Shot(path), Window(20, 20, 61, 61))[0], "linear")[..., 0]
        assert (light * rows).sum() / light.sum() == pytest.approx(30, abs=0.1)
        assert (light * columns).sum() / light.sum() == pytest.approx(30, abs=0.1)


def test_blur_keeps_the_amount_of_light():
    photo = textured()
    for path in paths(8, 5):
        blur, sharp = render_pair(photo, Shot(path), middle_window(photo, 8))
        assert decode(blur, "linear").mean() == pytest.approx(decode(sharp, "linear").mean(), rel=0.02)


@pytest.mark.parametrize("extent", [1.0, 12.0])
def test_margin_keeps_the_border_out_of_sight(extent):
    # Beyond the edge OpenCV reads black, which would darken this white photograph.
    photo = np.full((120, 160, 3), 255, np.uint8)
    for path in paths(extent, 20):
        blur, _ = render_pair(photo, Shot(path), middle_window(photo, extent))
        assert blur.min() == 255


def test_window_too_close_to_the_edge():
    with pytest.raises(InputError, match="pixels around it in a photograph of 120x90"):
        render_pair(textured(), Shot(paths(12)[0]), Window(2, 2, 80, 100))
