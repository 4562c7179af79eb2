import cv2
import numpy as np
import pytest
import skimage.data

from macr_plugin.visualization import MARK, WHEEL_RADIUS, Box, detail_box, motion_picture, side_by_side, with_inset

PHOTO = cv2.cvtColor(skimage.data.coffee(), cv2.COLOR_RGB2BGR)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (123, 217), (320, 440)])
def test_detail_is_found_where_alone_the_pictures_differ(top, left):
    place = Box(top, left, 80, 160)
    blurred = PHOTO.copy()
    place.cut(blurred)[:] = cv2.GaussianBlur(place.cut(PHOTO), (0, 0), 4)
    found = detail_box(blurred, PHOTO, (80, 160))
    # The Laplacian sees one pixel beyond the edge.
    assert abs(found.top - top) <= 1
    assert abs(found.left - left) <= 1
    assert found[2:] == (80, 160)


def test_detail_is_the_best_of_all_places():
    sharp, blurred = PHOTO[100:140, 200:260], cv2.blur(PHOTO, (9, 1))[100:140, 200:260]
    grey = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32) for picture in (sharp, blurred)]
    change = np.abs(cv2.Laplacian(grey[0], cv2.CV_32F, ksize=3) - cv2.Laplacian(grey[1], cv2.CV_32F, ksize=3))
    sums = {(y, x): change[y : y + 10, x : x + 20].sum() for y in range(31) for x in range(41)}
    assert detail_box(blurred, sharp, (10, 20)) == (*max(sums, key=sums.get), 10, 20)


def test_equal_pictures_and_pictures_smaller_than_the_detail_have_one_too():
    assert detail_box(PHOTO, PHOTO, (80, 160)) == (0, 0, 80, 160)
    assert detail_box(PHOTO[:30, :40], PHOTO[:30, :40], (80, 160)) == (0, 0, 30, 40)


def test_inset_repeats_the_pixels_of_the_detail_below_the_untouched_picture():
    box = Box(50, 100, 80, 160)
    shown = with_inset(PHOTO, box)
    height, width = PHOTO.shape[:2]
    assert shown.shape == (height + 4 + 3 * 80, width, 3)
    inset = shown[height + 4 :, : 3 * 160]
    inner = slice(6, -6)
    np.testing.assert_array_equal(inset[::3, ::3][inner, inner], box.cut(PHOTO)[inner, inner])
    np.testing.assert_array_equal(inset[2::3, 2::3][inner, inner], box.cut(PHOTO)[inner, inner])
    assert (inset[0] == MARK).all()
    changed = (shown[:height] != PHOTO).any(axis=2)
    rows, columns = np.nonzero(changed)
    # A line of two pixels lies half a pixel outside.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((50, 129, 100, 259), abs=1)
    assert not changed[55:125, 105:255].any()


def test_inset_as_wide_as_the_picture_is_not_enlarged():
    assert with_inset(PHOTO[:40, :50], Box(0, 0, 40, 50)).shape == (40 + 4 + 40, 50, 3)


@pytest.mark.parametrize("box", [Box(0, 0, 10, 20), Box(380, 570, 20, 30), Box(200, 300, 50, 50)])
def test_window_holds_the_detail_and_stays_in_the_picture(box):
    window = box.around((400, 600), (120, 160))
    assert window[2:] == (120, 160)
    assert 0 <= window.top <= box.top
    assert box.top + box.height <= window.top + 120 <= 400
    assert 0 <= window.left <= box.left
    assert box.left + box.width <= window.left + 160 <= 600
    np.testing.assert_array_equal(box.within(window).cut(window.cut(PHOTO)), box.cut(PHOTO))


def test_window_larger_than_the_picture_is_the_picture():
    assert Box(5, 5, 10, 10).around((40, 50), (480, 640)) == (0, 0, 40, 50)


def test_motions_are_painted_by_direction_and_length():
    """Red along x, cyan along y, half as full at half the length, white for none; a motion has two ways."""
    field = np.array([[[10, 0], [-10, 0], [0, 10], [0, -10]], [[5, 0], [0, 0], [0, 5], [7.0710678, 7.0710678]]], float)
    painted = motion_picture(field)[:2, :4, ::-1]
    red, cyan, green_yellow = [255, 0, 0], [0, 255, 255], [128, 255, 0]
    expected = [[red, red, cyan, cyan], [[255, 128, 128], [255, 255, 255], [128, 255, 255], green_yellow]]
    assert np.abs(painted.astype(int) - expected).max() <= 1


def test_the_wheel_shows_the_colours_of_the_field():
    field = np.zeros((60, 300, 2))
    field[:, 100:] = (12, 0)
    field[:, 200:] = (0, 6)
    drawn = motion_picture(field, longest=12)
    assert drawn.shape == (60 + 4 + 2 * WHEEL_RADIUS + 1, 300, 3)
    wheel = drawn[64:, : 2 * WHEEL_RADIUS + 1]
    centre = WHEEL_RADIUS
    assert (drawn[0, 0] == wheel[centre, centre]).all()
    assert (
        np.abs(drawn[0, 150].astype(int) - wheel[centre, centre + WHEEL_RADIUS - 2]).max() <= 255 * 2 / WHEEL_RADIUS + 1
    )
    assert np.abs(drawn[0, 250].astype(int) - wheel[centre - WHEEL_RADIUS // 2, centre]).max() <= 1


LONG_CAPTIONS = [
    "HIDE/test-close-ups/1fromGOPR1096.MP4: blurred, psnr 27.31",
    "GOPR0372_07_00_000047_a_folder_name_that_never_ends/000001: restored, psnr 31.20",
    "averyveryveryveryverylongnamewithoutanyplacetobreakit.MP4, 30.10 dB",
]


def ink(picture):
    return float((255 - picture.astype(float)).sum())


@pytest.mark.parametrize("caption", LONG_CAPTIONS)
@pytest.mark.parametrize("width", [40, 51, 128, 256, 340, 480])
def test_captions_are_written_whole_above_narrow_pictures(width, caption):
    pictures = {caption: PHOTO[:60, :width], "restored": PHOTO[60:120, :width], "sharp": PHOTO[120:180, :width]}
    shown = side_by_side(pictures)
    assert shown.shape[1] == 3 * width + 2 * 4
    for column, picture in enumerate(pictures.values()):
        assert np.array_equal(shown[-60:, column * (width + 4) :][:, :width], picture)
    strip = shown[:-60, :width]
    # No letter reaches an edge, and all letters are there: as much ink as where there is room enough.
    assert all(ink(edge) == 0 for edge in (strip[:2], strip[-2:], strip[:, :2], strip[:, -2:]))
    written = np.full((28, 2000, 3), 255, np.uint8)
    cv2.putText(written, caption, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (32, 32, 32), 1, cv2.LINE_AA)
    assert ink(strip) > 0.95 * ink(written)


def test_captions_that_fit_stand_in_one_line_and_share_the_size_of_their_letters():
    one_line = side_by_side({"blurred": PHOTO[:60, :200], "sharp": PHOTO[:60, :200]})
    assert one_line.shape[0] == 28 + 60
    beside_longer = side_by_side({"blurred": PHOTO[:60, :200], "a caption of some more words": PHOTO[:60, :200]})
    assert beside_longer.shape[0] == 28 + 60
    assert ink(beside_longer[:28, :200]) < ink(one_line[:28, :200])
