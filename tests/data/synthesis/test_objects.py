import cv2
import numpy as np
import pytest

from macr_plugin.data.synthesis.objects import MovingObject, draw_shape, fit_cut_out, read_cut_out
from macr_plugin.errors import InputError


def photo(height=90, width=120):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


def test_shapes_are_cut_from_the_photograph_and_end_softly():
    whole = photo()
    shapes = [draw_shape(np.random.default_rng(seed), 80, 100, lambda _: whole) for seed in range(20)]
    for shape in shapes:
        height, width = shape.shape[:2]
        assert 16 <= height <= 64
        assert 20 <= width <= 80
        differences = cv2.matchTemplate(whole, np.ascontiguousarray(shape[..., :3]), cv2.TM_SQDIFF)
        top, left = np.unravel_index(differences.argmin(), differences.shape)
        np.testing.assert_array_equal(shape[..., :3], whole[top : top + height, left : left + width])
        alpha = shape[..., 3]
        assert alpha.max() == 255
        assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0
        assert ((alpha > 0) & (alpha < 255)).any()
    assert len({shape.shape for shape in shapes}) > 10


def test_shape_from_a_photograph_smaller_than_it():
    shape = draw_shape(np.random.default_rng(0), 200, 200, lambda _: photo(10, 12))
    assert shape.shape == (10, 12, 4)


def test_cut_out_is_scaled_and_flipped_without_a_dark_edge():
    picture = np.zeros((40, 60, 4), np.uint8)
    # White where it is opaque, black where nobody sees it.
    picture[10:30, 5:30] = 255
    flipped = set()
    for seed in range(20):
        scaled = fit_cut_out(np.random.default_rng(seed), picture, 100)
        assert 20 <= scaled.shape[0] <= 50
        assert scaled.shape[1] == pytest.approx(1.5 * scaled.shape[0], abs=2)
        assert scaled[..., :3][scaled[..., 3] > 8].min() >= 230
        flipped.add(bool(scaled[:, : scaled.shape[1] // 2, 3].mean() < scaled[:, scaled.shape[1] // 2 :, 3].mean()))
    assert flipped == {False, True}


def test_cut_outs_need_alpha(tmp_path):
    picture = np.dstack((photo(), np.full((90, 120), 77, np.uint8)))
    cv2.imwrite(str(tmp_path / "good.png"), picture)
    np.testing.assert_array_equal(read_cut_out(tmp_path / "good.png"), picture)
    cv2.imwrite(str(tmp_path / "opaque.png"), photo())
    with pytest.raises(InputError, match=r"opaque\.png is no cut-out: give 8-bit colour with an alpha channel"):
        read_cut_out(tmp_path / "opaque.png")
    cv2.imwrite(str(tmp_path / "deep.png"), picture.astype(np.uint16))
    with pytest.raises(InputError, match=r"deep\.png is no cut-out"):
        read_cut_out(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"broken\.png is not a readable picture"):
        read_cut_out(tmp_path / "broken.png")


@pytest.mark.parametrize(("top", "left"), [(0, 0), (-4, 3), (18, 27), (-40, -40), (3, 60), (-2, -3)])
def test_canvas_holds_what_lies_in_the_picture_and_its_margin(top, left):
    cut_out = np.random.default_rng(0).integers(1, 256, (6, 8, 4), dtype=np.uint8)
    canvas = MovingObject(cut_out, top, left, np.zeros((3, 2))).canvas(20, 30, 3)
    expected = np.zeros((200, 200, 4), np.uint8)
    expected[103 + top : 109 + top, 103 + left : 111 + left] = cut_out
    np.testing.assert_array_equal(canvas, expected[100:126, 100:136])
