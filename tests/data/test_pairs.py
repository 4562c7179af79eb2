import numpy as np
import pytest
from saved_pictures import save_picture

from macr_plugin.data.pairs import ImagePair, check_sizes, evenly_spaced, pair_folders
from macr_plugin.errors import InputError

PICTURE = np.full((6, 8, 3), 100, np.uint8)


def save(path, picture=PICTURE):
    return save_picture(path, picture)


def test_folders_are_paired_by_relative_name(tmp_path):
    for name in ("x.png", "deep/er/y.jpg"):
        save(tmp_path / "in" / name)
        save(tmp_path / "out" / name)
    pairs = pair_folders(tmp_path / "in", tmp_path / "out")
    assert [pair.key for pair in pairs] == ["deep/er/y", "x"]
    assert pairs[0].sharp == tmp_path / "out/deep/er/y.jpg"


def test_folders_with_names_that_differ_in_the_extension_only(tmp_path):
    for folder in ("in", "out"):
        save(tmp_path / folder / "x.png")
        save(tmp_path / folder / "x.jpg")
    with pytest.raises(InputError, match="differ in their extension only"):
        pair_folders(tmp_path / "in", tmp_path / "out")


def test_folder_without_pictures(tmp_path):
    save(tmp_path / "in/x.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out holds no pictures"):
        pair_folders(tmp_path / "in", tmp_path / "out")


def test_pair_of_two_sizes_names_both(tmp_path):
    pair = ImagePair("a", tmp_path / "blur/000001.png", tmp_path / "sharp/000001.png")
    with pytest.raises(InputError, match=r"blur/000001.png is 8x6 and .*sharp/000001.png is 9x7"):
        check_sizes(pair, PICTURE, np.zeros((7, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("count", "number", "chosen"),
    [(10, 5, [0, 2, 4, 6, 8]), (10, 3, [0, 3, 6]), (3, 8, [0, 1, 2]), (5, 0, []), (0, 2, [])],
)
def test_some_of_many_are_evenly_spaced(count, number, chosen):
    assert evenly_spaced(count, number) == chosen
