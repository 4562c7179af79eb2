import numpy as np
import pytest
from saved_pictures import save_picture

from macr_plugin.data.pairs import check_keys, pair_folders
from macr_plugin.data.preparation.gopro import find_pairs, find_split
from macr_plugin.errors import InputError

PICTURE = np.full((6, 8, 3), 100, np.uint8)


def save(path, picture=PICTURE):
    return save_picture(path, picture)


@pytest.fixture
def split(tmp_path):
    for scene in ("b", "a"):
        for frame in ("000002", "000001"):
            save(tmp_path / "train" / scene / "blur" / f"{frame}.png")
            save(tmp_path / "train" / scene / "blur_gamma" / f"{frame}.png")
            save(tmp_path / "train" / scene / "sharp" / f"{frame}.png")
    return tmp_path / "train"


def test_pairs_are_keyed_by_scene_and_frame_and_sorted(split):
    pairs = find_pairs(split)
    assert [pair.key for pair in pairs] == ["a/000001", "a/000002", "b/000001", "b/000002"]
    assert pairs[1].blur == split / "a/blur/000002.png"
    assert pairs[1].sharp == split / "a/sharp/000002.png"


def test_blur_gamma_is_found_in_its_own_folder(split):
    assert find_pairs(split, "blur_gamma")[0].blur == split / "a/blur_gamma/000001.png"


def test_hidden_files_and_loose_files_are_passed_over(split):
    save(split / "preview.png")
    (split / "a/blur/._000001.png").write_bytes(b"finder")
    (split / ".cache").mkdir()
    assert len(find_pairs(split)) == 4


def test_extension_in_capitals(tmp_path):
    for kind in ("blur", "sharp"):
        save(tmp_path / f"a/{kind}/000001.PNG")
        save(tmp_path / f"a/{kind}/000002.png")
        (tmp_path / f"a/{kind}/notes.txt").write_text("")
    pairs = find_pairs(tmp_path)
    assert [(pair.key, pair.blur.name) for pair in pairs] == [("a/000001", "000001.PNG"), ("a/000002", "000002.png")]
    for kind in ("blur", "sharp"):
        save(tmp_path / f"a/{kind}/000002.PNG")
    with pytest.raises(InputError, match=r"a/blur/000002\.png and 000002\.PNG differ in their extension only"):
        find_pairs(tmp_path)


def test_missing_split_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        find_pairs(tmp_path / "nowhere")


def test_split_without_scenes(tmp_path):
    with pytest.raises(InputError, match="holds no scenes"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(("removed", "named"), [("blur", "no folder blur"), ("sharp", "no folder sharp")])
def test_scene_without_one_of_its_folders(split, removed, named):
    (split / "b" / removed).rename(split / "b" / "elsewhere")
    with pytest.raises(InputError, match=named):
        find_pairs(split)


def test_scene_without_pictures(split):
    for file in (split / "a/sharp").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"a/sharp holds no pictures"):
        find_pairs(split)


@pytest.mark.parametrize(("removed", "left"), [("blur", "sharp"), ("sharp", "blur")])
def test_missing_partner_names_the_file(split, removed, left):
    (split / "b" / removed / "000002.png").unlink()
    with pytest.raises(InputError, match=rf"b/{left}/000002\.png has no partner in .*b/{removed} \("):
        find_pairs(split)


def test_missing_partner_tells_the_counts(split):
    (split / "b/sharp/000002.png").unlink()
    with pytest.raises(InputError, match=r"blur: 2 pictures, sharp: 1"):
        find_pairs(split)


@pytest.mark.parametrize(("scene", "frame"), [("a", "frame.1"), ("c.x", "000001"), ("a", "främe")])
def test_names_with_dots_and_accents_are_found_and_refused_for_an_lmdb(split, scene, frame):
    save(split / scene / "blur" / f"{frame}.png")
    save(split / scene / "sharp" / f"{frame}.png")
    pairs = {pair.key: pair for pair in find_pairs(split)}
    assert pairs[f"{scene}/{frame}"].blur == split / scene / "blur" / f"{frame}.png"
    with pytest.raises(InputError, match=f"cannot keep the name '{scene}/{frame}'"):
        check_keys(pairs.values())


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp"])
def test_scenes_of_other_formats(tmp_path, suffix):
    for kind in ("blur", "sharp"):
        save(tmp_path / "test/a" / kind / f"000001.{suffix}")
    assert [pair.key for pair in find_pairs(tmp_path / "test")] == ["a/000001"]


def test_split_is_found_in_each_layout(split, tmp_path):
    assert find_split(split) == (find_pairs(split), "blur")
    assert find_split(split, "blur_gamma") == (find_pairs(split, "blur_gamma"), "blur_gamma")
    for kind in ("blur_gamma", "sharp"):
        save(tmp_path / "flat" / kind / "a_b-000001.png")
    pairs, blur = find_split(tmp_path / "flat", "blur_gamma")
    assert [(pair.key, pair.blur.name) for pair in pairs] == [("a_b/000001", "a_b-000001.png")]
    assert blur == "blur_gamma"


@pytest.mark.parametrize("missing", ["input", "target"])
def test_split_with_half_of_a_flattened_layout(tmp_path, missing):
    for kind in {"input", "target"} - {missing}:
        save(tmp_path / kind / "a.png")
    with pytest.raises(InputError, match=f"{missing} is not a folder"):
        find_split(tmp_path)


def test_links_to_folders_are_followed_and_loops_survived(tmp_path):
    save(tmp_path / "elsewhere/000001.png")
    for kind in ("blur", "sharp"):
        save(tmp_path / kind / "a/000001.png")
        (tmp_path / kind / "b").symlink_to(tmp_path / "elsewhere")
        (tmp_path / kind / "a/loop").symlink_to(tmp_path / kind)
        (tmp_path / kind / "again").symlink_to(tmp_path / kind / "a")
        (tmp_path / kind / "gone").symlink_to(tmp_path / "nowhere")
    assert [pair.key for pair in pair_folders(tmp_path / "blur", tmp_path / "sharp")] == ["a/000001", "b/000001"]
