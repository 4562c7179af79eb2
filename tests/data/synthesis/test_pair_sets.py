import os

import cv2
import numpy as np
import pytest
from saved_pictures import textured

from macr_plugin.data.pairs import read_pair
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.lmdb_format import read_meta_info, read_storage
from macr_plugin.data.storage.readers import open_lmdb
from macr_plugin.data.synthesis import pair_sets
from macr_plugin.data.synthesis.blur_model import BlurModel, blur_model
from macr_plugin.data.synthesis.pair_sets import synthesize_from_photos
from macr_plugin.data.synthesis.paths import border_margin
from macr_plugin.errors import InputError


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
    assert synthesize_from_photos(photos, out, pairs=3, model=BlurModel((2, 5)))
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


def test_averaging_changes_the_blurred_pictures_alone(photos, tmp_path):
    pictures = {}
    for averaging, gopro_name in (("linear", "blur_gamma"), ("encoded", "blur")):
        out = tmp_path / averaging / "train"
        synthesize_from_photos(photos, out, pairs=1, model=BlurModel((4, 5), averaging=(averaging,)))
        assert read_storage(out.parent / "train_blur.lmdb").blur == gopro_name
        assert read_storage(out.parent / "train_sharp.lmdb").blur is None
        pictures[averaging] = [read_pair(pair) for pair in find_pairs(out)]
    for (linear_blur, linear_sharp), (encoded_blur, encoded_sharp) in zip(*pictures.values(), strict=True):
        np.testing.assert_array_equal(linear_sharp, encoded_sharp)
        # The mean of squares is above the square of the mean.
        assert linear_blur.mean() > encoded_blur.mean() + 0.5


def test_size_cuts_pictures_out_of_the_photographs(photos, tmp_path):
    out = tmp_path / "mine/train"
    synthesize_from_photos(photos, out, pairs=3, model=BlurModel((2, 5)), size=(40, 50))
    sharp = [read_pair(pair)[1] for pair in find_pairs(out)]
    assert {picture.shape for picture in sharp} == {(40, 50, 3)}
    assert len({picture.tobytes() for picture in sharp}) == len(sharp)
    with pytest.raises(InputError, match=r"north\.png is 120x90, too small for 50x80 pixels with blur of 5 pixels"):
        synthesize_from_photos(photos, tmp_path / "large", pairs=1, model=BlurModel((2, 5)), size=(80, 50))


def test_processes_and_repetition_do_not_change_a_byte(photos, tmp_path):
    for name, workers in (("one", 1), ("two", 2), ("default", None)):
        synthesize_from_photos(photos, tmp_path / name / "train", pairs=2, model=BlurModel((2, 5)), workers=workers)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two") == files_below(tmp_path / "default")


def test_second_run_is_refused_or_skipped_or_forced(photos, tmp_path):
    out = tmp_path / "mine/train"
    assert synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 3)))
    first = files_below(out.parent)
    assert not synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 3)))
    with pytest.raises(InputError, match="other photographs or settings: --force replaces it"):
        synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 3)), seed=1)
    assert files_below(out.parent) == first
    assert synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 3)), seed=1, force=True)
    assert files_below(out.parent).keys() == first.keys()
    assert files_below(out.parent) != first
    cv2.imwrite(str(photos / "north.png"), textured(seed=9))
    with pytest.raises(InputError, match="other photographs"):
        synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 3)), seed=1)


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
        ({"size": (0, 40)}, "the size 40x0 is no size"),
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
    (photos / "broken.jpg").rename(photos / "été.jpg")
    with pytest.raises(InputError, match="cannot keep the name 'été'"):
        synthesize_from_photos(photos, tmp_path / "train")


def test_many_pairs_of_one_photograph_do_not_depend_on_how_they_are_shared_out(photos, tmp_path, monkeypatch):
    model = blur_model({"extent": (0, 6), "object_share": 1}, realistic=True)
    for name, number in (("some", 2), ("all", 32)):
        monkeypatch.setattr(pair_sets, "PAIRS_PER_JOB", number)
        synthesize_from_photos(photos, tmp_path / name / "train", pairs=5, size=(24, 32), model=model, workers=1)
    assert files_below(tmp_path / "some") == files_below(tmp_path / "all")


def test_photographs_may_be_listed(photos, tmp_path):
    cv2.imwrite(str(tmp_path / "east.png"), textured(seed=5))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/west.png").symlink_to(tmp_path / "east.png")
    sources = [photos / "south.jpg", tmp_path / "linked"]
    synthesize_from_photos(sources, tmp_path / "mine/train", pairs=1, model=BlurModel((2, 3)))
    assert [pair.key for pair in find_pairs(tmp_path / "mine/train")] == ["south/000001", "west/000001"]
    with pytest.raises(InputError, match=r"missing\.png is not a folder"):
        synthesize_from_photos([tmp_path / "missing.png"], tmp_path / "none/train")


def test_uncompressed_lmdbs_hold_the_pictures(photos, tmp_path):
    out = tmp_path / "mine/train"
    synthesize_from_photos(photos, out, pairs=2, size=(40, 50), storage="uncompressed", model=BlurModel((2, 3)))
    pairs = find_pairs(out)
    for kind in ("blur", "sharp"):
        reader = open_lmdb(out.parent / f"train_{kind}.lmdb", "uncompressed_lmdb")
        for pair in pairs:
            picture = reader.read(pair.key)[0:40, 0:50]
            np.testing.assert_array_equal(picture[..., ::-1], cv2.imread(str(getattr(pair, kind))))


def test_other_cut_outs_make_another_set(photos, tmp_path):
    things = tmp_path / "things"
    things.mkdir()
    cv2.imwrite(str(things / "ball.png"), np.full((20, 20, 4), 200, np.uint8))
    model = blur_model({"extent": (2, 3), "object_share": 1, "object_folder": things})
    out = tmp_path / "mine/train"
    assert synthesize_from_photos(photos, out, pairs=1, model=model)
    assert not synthesize_from_photos(photos, out, pairs=1, model=model)
    cv2.imwrite(str(things / "ball.png"), np.full((20, 20, 4), 100, np.uint8))
    with pytest.raises(InputError, match="other photographs or settings"):
        synthesize_from_photos(photos, out, pairs=1, model=model)


def test_two_at_once_lose_nothing(photos, tmp_path, monkeypatch):
    """The second is refused, whatever it would write, and the first ends as if it had not been started."""
    out, write_split, refusals = tmp_path / "out/train", pair_sets.write_split, []

    def while_another_starts(*arguments):
        for seed in (0, 1):
            with pytest.raises(InputError, match=rf"another process is writing into .* process {os.getpid()}"):
                staged_synthesis(seed)
            refusals.append(seed)
        write_split(*arguments)

    def staged_synthesis(seed):
        with monkeypatch.context() as patches:
            patches.setattr(pair_sets, "write_split", write_split)
            synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 5)), seed=seed)

    monkeypatch.setattr(pair_sets, "write_split", while_another_starts)
    assert synthesize_from_photos(photos, out, pairs=1, model=BlurModel((2, 5)))
    assert refusals == [0, 1]
    expected = tmp_path / "alone/train"
    monkeypatch.setattr(pair_sets, "write_split", write_split)
    synthesize_from_photos(photos, expected, pairs=1, model=BlurModel((2, 5)))
    assert files_below(out.parent).keys() == files_below(expected.parent).keys()
    assert files_below(out) == files_below(expected)
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]
