import numpy as np
import pytest
from saved_pictures import save_picture

from macr_plugin.data.picture_files import check_png, read_picture
from macr_plugin.errors import InputError

PICTURE = np.full((6, 8, 3), 100, np.uint8)


def save(path, picture=PICTURE):
    return save_picture(path, picture)


def test_picture_is_read_as_bgr_bytes(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "x.png", picture)), picture)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_undecodable_picture(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png is not a readable picture"):
        read_picture(tmp_path / "x.png")


@pytest.mark.parametrize(
    "picture",
    [np.zeros((6, 8), np.uint8), np.zeros((6, 8, 3), np.uint16), np.zeros((6, 8, 4), np.uint8)],
    ids=["grey", "16 bits", "alpha"],
)
def test_picture_that_is_not_8_bit_colour(tmp_path, picture):
    with pytest.raises(InputError, match="convert it to 8-bit colour"):
        read_picture(save(tmp_path / "x.png", picture))


def test_missing_picture(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*x.png: No such file"):
        read_picture(tmp_path / "x.png")


def test_whole_png_passes_and_so_does_what_is_no_png(tmp_path):
    data = save(tmp_path / "x.png").read_bytes()
    check_png(data, "x")
    check_png(data + b"what some programs add", "x")
    check_png(b"", "x")
    check_png(b"BM...", "x")


@pytest.mark.parametrize("cut", [9, 20, -20, -12, -1])
def test_png_that_is_cut_off_anywhere(tmp_path, cut):
    with pytest.raises(InputError, match="is cut off or damaged"):
        check_png(save(tmp_path / "x.png").read_bytes()[:cut], "x")
