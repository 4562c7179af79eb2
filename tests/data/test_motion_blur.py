import cv2
import numpy as np
import pytest

from macr_plugin.data.gopro import find_pairs, read_pair
from macr_plugin.data.lmdb import read_meta_info
from macr_plugin.data.motion_blur import (
    CameraPath,
    Window,
    border_margin,
    decode_srgb,
    draw_camera_path,
    encode_srgb,
    generator_for,
    render_pair,
    synthesize_from_photos,
)
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
    np.testing.assert_array_equal(encode_srgb(decode_srgb(levels)), levels)
    # IEC 61966-2-1: half of the light is 188 of 255; 10 of 255 lies on the linear part.
    assert encode_srgb(np.float32([0.5])) == 188
    np.testing.assert_allclose(decode_srgb(np.uint8([10])), 10 / 255 / 12.92, rtol=1e-6)


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
    blur, sharp = render_pair(photo, path, middle_window(photo, 0))
    np.testing.assert_array_equal(blur, sharp)


def test_sharp_picture_is_an_exact_cut_out():
    photo = textured()
    _, sharp = render_pair(photo, paths(6)[0], Window(20, 25, 40, 60))
    np.testing.assert_array_equal(sharp, photo[20:60, 25:85])
    assert not np.shares_memory(sharp, photo)


def test_average_is_taken_in_linear_light():
    photo = np.zeros((40, 64, 3), np.uint8)
    photo[:, 32] = 255
    blur, _ = render_pair(photo, path_of((-4, 0), (0, 0), (4, 0)), Window(12, 12, 16, 40))
    third = encode_srgb(np.float32([1 / 3]))[0]
    expected = np.zeros((16, 40, 3), np.uint8)
    expected[:, (16, 20, 24)] = third
    assert third == 156
    np.testing.assert_array_equal(blur, expected)


def test_camera_that_looks_right_moves_the_picture_left():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[18, 30] = 255
    blur, _ = render_pair(photo, path_of((0, 0), (0, 0), (5, 3)), Window(10, 10, 20, 40))
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
        light = decode_srgb(render_pair(photo, path, Window(20, 20, 61, 61))[0])[..., 0]
        assert (light * rows).sum() / light.sum() == pytest.approx(30, abs=0.1)
        assert (light * columns).sum() / light.sum() == pytest.approx(30, abs=0.1)


def test_blur_keeps_the_amount_of_light():
    photo = textured()
    for path in paths(8, 5):
        blur, sharp = render_pair(photo, path, middle_window(photo, 8))
        assert decode_srgb(blur).mean() == pytest.approx(decode_srgb(sharp).mean(), rel=0.02)


@pytest.mark.parametrize("extent", [1.0, 12.0])
def test_margin_keeps_the_border_out_of_sight(extent):
    # Beyond the edge OpenCV reads black, which would darken this white photograph.
    photo = np.full((120, 160, 3), 255, np.uint8)
    for path in paths(extent, 20):
        blur, _ = render_pair(photo, path, middle_window(photo, extent))
        assert blur.min() == 255


def test_window_too_close_to_the_edge():
    with pytest.raises(InputError, match="pixels around it in a photograph of 120x90"):
        render_pair(textured(), paths(12)[0], Window(2, 2, 80, 100))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("north.png", "south.jpg")):
        cv2.imwrite(str(folder / name), textured(seed=seed))
    (folder / "notes.txt").write_text("not a photograph")
    return folder


def files_below(root):
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_photos_become_scenes_and_lmdbs(photos, tmp_path):
    out = tmp_path / "mine/train"
    assert synthesize_from_photos(photos, out, pairs=3, extent=(2, 5))
    pairs = find_pairs(out)
    assert [pair.key for pair in pairs] == [f"{scene}/00000{n}" for scene in ("north", "south") for n in (1, 2, 3)]
    margin = border_margin(5, 90, 120)
    for pair in pairs:
        blur, sharp = read_pair(pair)
        assert sharp.shape == (90 - 2 * margin, 120 - 2 * margin, 3)
        assert not np.array_equal(blur, sharp)
    np.testing.assert_array_equal(read_pair(pairs[0])[1], textured()[margin:-margin, margin:-margin])
    assert len({pair.blur.read_bytes() for pair in pairs}) == len(pairs)
    for lmdb_name in ("train_blur.lmdb", "train_sharp.lmdb"):
        assert read_meta_info(out.parent / lmdb_name) == [pair.key for pair in pairs]
    assert {entry.name for entry in out.parent.iterdir()} == {"train", "train_blur.lmdb", "train_sharp.lmdb"}


def test_processes_and_repetition_do_not_change_a_byte(photos, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        synthesize_from_photos(photos, tmp_path / name / "train", pairs=2, extent=(2, 5), workers=workers)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_second_run_is_refused_or_skipped_or_forced(photos, tmp_path):
    out = tmp_path / "mine/train"
    assert synthesize_from_photos(photos, out, pairs=1, extent=(2, 3))
    first = files_below(out.parent)
    assert not synthesize_from_photos(photos, out, pairs=1, extent=(2, 3))
    with pytest.raises(InputError, match="other photographs or settings: --force replaces it"):
        synthesize_from_photos(photos, out, pairs=1, extent=(2, 3), seed=1)
    assert files_below(out.parent) == first
    assert synthesize_from_photos(photos, out, pairs=1, extent=(2, 3), seed=1, force=True)
    assert files_below(out.parent).keys() == first.keys()
    assert files_below(out.parent) != first
    cv2.imwrite(str(photos / "north.png"), textured(seed=9))
    with pytest.raises(InputError, match="other photographs"):
        synthesize_from_photos(photos, out, pairs=1, extent=(2, 3), seed=1)


@pytest.mark.parametrize("force", [False, True])
def test_foreign_folder_is_never_replaced(photos, tmp_path, force):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="was not written by `macr synthesize`"):
        synthesize_from_photos(photos, tmp_path / "precious", force=force)
    assert files_below(tmp_path / "precious") == {"thesis.txt": b"years of work"}


def test_foreign_lmdb_is_never_replaced(photos, tmp_path):
    (tmp_path / "train_sharp.lmdb").mkdir()
    with pytest.raises(InputError, match=r"train_sharp\.lmdb exists without"):
        synthesize_from_photos(photos, tmp_path / "train", force=True)


def test_failure_leaves_nothing(photos, tmp_path):
    cv2.imwrite(str(photos / "tiny.png"), textured(20, 20))
    with pytest.raises(InputError, match=r"tiny\.png is 20x20, too small for blur of 12 pixels"):
        synthesize_from_photos(photos, tmp_path / "out/train", pairs=1)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extent": (5, 4)}, "is no range"),
        ({"extent": (-1, 4)}, "is no range"),
        ({"extent": (0, float("nan"))}, "is no range"),
        ({"pairs": 0}, "at least 1"),
        ({"workers": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_unusable_settings(photos, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        synthesize_from_photos(photos, tmp_path / "train", **options)


def test_unusable_photo_folders(photos, tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        synthesize_from_photos(tmp_path / "nowhere", tmp_path / "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no photographs"):
        synthesize_from_photos(tmp_path / "empty", tmp_path / "train")
    (photos / "north.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"north.* would be one scene"):
        synthesize_from_photos(photos, tmp_path / "train")
    (photos / "north.jpg").rename(photos / "broken.jpg")
    with pytest.raises(InputError, match=r"broken\.jpg is not a readable picture"):
        synthesize_from_photos(photos, tmp_path / "train", pairs=1)
    (photos / "broken.jpg").rename(photos / "dot.ted.jpg")
    with pytest.raises(InputError, match=r"cannot keep the name 'dot\.ted'"):
        synthesize_from_photos(photos, tmp_path / "train")
