import cv2
import numpy as np
import pytest
from saved_pictures import textured

from macr_plugin.data.synthesis.blur_model import BlurModel, Shot
from macr_plugin.data.synthesis.objects import MovingObject
from macr_plugin.data.synthesis.paths import CameraPath, border_margin, draw_camera_path, generator_for
from macr_plugin.data.synthesis.rendering import render_pair
from macr_plugin.data.synthesis.response import decode, encode
from macr_plugin.errors import InputError
from macr_plugin.visualization import Box


def path_of(*positions):
    return CameraPath(np.array(positions, float), np.zeros(len(positions)))


def paths(extent, number=50):
    return [draw_camera_path(generator_for(0, f"scene/{index}"), extent) for index in range(number)]


def middle_window(photo, extent):
    margin = border_margin(extent, *photo.shape[:2])
    return Box(margin, margin, photo.shape[0] - 2 * margin, photo.shape[1] - 2 * margin)


def test_camera_at_rest_blurs_nothing():
    photo = textured()
    path = draw_camera_path(generator_for(0, "a/1"), 0)
    blur, sharp = render_pair(photo, Shot(path), middle_window(photo, 0))
    np.testing.assert_array_equal(blur, sharp)


def test_sharp_picture_is_an_exact_cut_out():
    photo = textured()
    _, sharp = render_pair(photo, Shot(paths(6)[0]), Box(20, 25, 40, 60))
    np.testing.assert_array_equal(sharp, photo[20:60, 25:85])
    assert not np.shares_memory(sharp, photo)


def test_average_is_taken_in_linear_light():
    photo = np.zeros((40, 64, 3), np.uint8)
    photo[:, 32] = 255
    blur, _ = render_pair(photo, Shot(path_of((-4, 0), (0, 0), (4, 0))), Box(12, 12, 16, 40))
    third = encode(np.float32([1 / 3]), "linear")[0]
    expected = np.zeros((16, 40, 3), np.uint8)
    expected[:, (16, 20, 24)] = third
    assert third == 156
    np.testing.assert_array_equal(blur, expected)


def test_average_of_encoded_values():
    photo = np.zeros((40, 64, 3), np.uint8)
    photo[:, 32] = 255
    blur, sharp = render_pair(photo, Shot(path_of((-4, 0), (0, 0), (4, 0)), "encoded"), Box(12, 12, 16, 40))
    expected = np.zeros((16, 40, 3), np.uint8)
    expected[:, (16, 20, 24)] = 85
    np.testing.assert_array_equal(blur, expected)
    np.testing.assert_array_equal(sharp, photo[12:28, 12:52])


def test_camera_that_looks_right_moves_the_picture_left():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[18, 30] = 255
    blur, _ = render_pair(photo, Shot(path_of((0, 0), (0, 0), (5, 3))), Box(10, 10, 20, 40))
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
        light = decode(render_pair(photo, Shot(path), Box(20, 20, 61, 61))[0], "linear")[..., 0]
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
        render_pair(textured(), Shot(paths(12)[0]), Box(2, 2, 80, 100))


def turning(turn, shift=(0.0, 0.0), zoom=0.0):
    """A path whose last of three sub-frames alone differs from the middle one."""
    last = np.array((0.0, 0.0, 1.0))
    return CameraPath(np.outer(last, shift), np.zeros(3), np.outer(last, turn), zoom * last)


def last_subframe(photo, shot, window):
    """What the third of three sub-frames shows, as encoded values, from the average that holds two sharp ones."""
    blur, sharp = render_pair(photo, shot, window)
    return 3.0 * blur - 2.0 * sharp


def smooth(height=200, width=240):
    """Slopes that linear interpolation follows exactly, and grey, so that one channel tells a place."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, np.full_like(rows, 128)), axis=-1).astype(np.uint8)


WINDOW = Box(60, 70, 81, 101)
ROWS, COLUMNS = np.mgrid[:81, :101]


def test_pitch_and_yaw_are_the_homography_of_a_turned_pinhole_camera():
    path = turning(turn=(12.0, -9.0), shift=(12.0, -9.0))
    seen = last_subframe(smooth(), Shot(path, "encoded"), WINDOW)
    # Independent: rays through the pixels, turned, and back into the picture.
    rays = np.stack((COLUMNS - 50, ROWS - 40, np.full(ROWS.shape, 1000.0)), axis=-1)
    yaw = np.arctan2(12.0, 1000)
    pitch = np.arctan2(9.0 * np.cos(yaw), 1000)
    about_x = np.array(((1, 0, 0), (0, np.cos(pitch), -np.sin(pitch)), (0, np.sin(pitch), np.cos(pitch))))
    about_y = np.array(((np.cos(yaw), 0, np.sin(yaw)), (0, 1, 0), (-np.sin(yaw), 0, np.cos(yaw))))
    x, y, z = np.moveaxis(rays @ (about_y @ about_x).T, -1, 0)
    np.testing.assert_allclose(seen[..., 1], 1000 * x / z + 50 + 70, atol=1.6)
    np.testing.assert_allclose(seen[..., 0], 1000 * y / z + 40 + 60, atol=1.6)
    # The centre moves by exactly the path.
    homography = path.homographies()[2]
    np.testing.assert_allclose(homography[:2, 2] / homography[2, 2], (12, -9), atol=1e-9)


def test_zoom_enlarges_about_the_centre():
    seen = last_subframe(smooth(), Shot(turning((0, 0), zoom=0.2), "encoded"), WINDOW)
    np.testing.assert_allclose(seen[..., 1], 1.2 * (COLUMNS - 50) + 50 + 70, atol=1.6)
    np.testing.assert_allclose(seen[..., 0], 1.2 * (ROWS - 40) + 40 + 60, atol=1.6)


def test_near_things_move_and_far_ones_only_turn():
    depth = np.tile(np.linspace(0, 1, 101, dtype=np.float32), (81, 1))
    path = turning(turn=(0.0, 4.0), shift=(12.0, 4.0))
    seen = last_subframe(smooth(), Shot(path, "encoded", depth), WINDOW)
    np.testing.assert_allclose(seen[..., 1], COLUMNS + 70 + 12 * depth, atol=1.7)
    np.testing.assert_allclose(seen[..., 0], ROWS + 60 + 4, atol=1.6)


def test_equal_depth_is_what_no_depth_gives():
    photo, path = textured(), draw_camera_path(generator_for(0, "a"), 6)
    window = middle_window(photo, 6)
    ones = np.ones((window.height, window.width), np.float32)
    expected, _ = render_pair(photo, Shot(path), window)
    blur, _ = render_pair(photo, Shot(path, inverse_depth=ones), window)
    assert np.abs(blur.astype(int) - expected).max() <= 1


def test_moving_object_is_sharp_in_the_sharp_picture_and_smeared_in_the_other():
    photo = np.zeros((40, 60, 3), np.uint8)
    cut_out = np.full((6, 4, 4), 255, np.uint8)
    moving = MovingObject(cut_out, 7, 18, np.array([(-6.0, 0), (0, 0), (6, 0)]))
    blur, sharp = render_pair(
        photo, Shot(path_of((0, 0), (0, 0), (0, 0)), "encoded", None, moving), Box(10, 10, 20, 40)
    )
    expected = np.zeros((20, 40, 3), np.uint8)
    expected[7:13, 18:22] = 255
    np.testing.assert_array_equal(sharp, expected)
    # What the camera looks at further to the right appears further to the left.
    smeared = np.zeros((20, 40, 3), np.uint8)
    for left in (12, 18, 24):
        smeared[7:13, left : left + 4] = 85
    np.testing.assert_array_equal(blur, smeared)


def test_moving_object_covers_the_photograph_by_its_alpha():
    photo = np.full((40, 60, 3), 100, np.uint8)
    cut_out = np.dstack((np.full((20, 40, 3), 200, np.uint8), np.full((20, 40), 51, np.uint8)))
    for averaging in ("linear", "encoded", "gamma2.2", "highlights"):
        shot = Shot(path_of((0, 0), (0, 0), (0, 0)), averaging, None, MovingObject(cut_out, 0, 0, np.zeros((3, 2))))
        blur, sharp = render_pair(photo, shot, Box(10, 10, 20, 40))
        light = 0.8 * decode(np.uint8([100]), averaging) + 0.2 * decode(np.uint8([200]), averaging)
        np.testing.assert_array_equal(sharp, encode(light, averaging)[0])
        np.testing.assert_array_equal(blur, sharp)


@pytest.mark.parametrize("corner", [(-30, 3), (3, -60), (60, 3), (3, 90), (-3, -2)])
def test_moving_object_may_lie_outside(corner):
    photo, cut_out = textured(), np.full((6, 4, 4), 255, np.uint8)
    path = path_of((0, 0), (0, 0), (0, 0))
    window = Box(20, 25, 40, 60)
    with_object = Shot(path, moving=MovingObject(cut_out, *corner, np.array([(-1.0, 0), (0, 0), (1, 0)])))
    blur, sharp = render_pair(photo, with_object, window)
    plain_blur, plain_sharp = render_pair(photo, Shot(path), window)
    if corner == (-3, -2):
        assert (sharp[:3, :2] == 255).all()
        sharp[:3, :3] = plain_sharp[:3, :3]
        blur[:3, :3] = plain_blur[:3, :3]
    np.testing.assert_array_equal(sharp, plain_sharp)
    np.testing.assert_array_equal(blur, plain_blur)


def test_margin_of_a_model_keeps_the_border_out_of_sight():
    photo = np.full((420, 520, 3), 255, np.uint8)
    model = BlurModel((25, 30), turn_share=(0, 1), zoom=1e-3, depth=("flat", "smooth"))
    margin = model.margin(200, 300)
    for number in range(12):
        generator = generator_for(0, str(number))
        shot = model.draw_shot(generator, model.draw_extent(generator), (200, 300), lambda _: photo)
        blur, _ = render_pair(photo[: 200 + 2 * margin, : 300 + 2 * margin], shot, Box(margin, margin, 200, 300))
        assert blur.min() == 255


def test_bright_light_leaves_a_streak():
    photo = np.full((40, 64, 3), 20, np.uint8)
    photo[:, 32] = 255
    window = Box(12, 12, 16, 40)
    path = path_of((-4, 0), (0, 0), (4, 0))
    linear, bright = (render_pair(photo, Shot(path, name), window) for name in ("linear", "highlights"))
    np.testing.assert_array_equal(linear[1], bright[1])
    assert linear[0][0, 16, 0] < 160
    # A third of a light four times as bright as white.
    assert bright[0][0, 16, 0] > 240
    assert bright[0][0, 0, 0] == linear[0][0, 0, 0] == 20
