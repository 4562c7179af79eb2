import errno
import json
import shutil

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.data_util import paired_paths_from_lmdb
from basicsr.utils import FileClient
from saved_pictures import save_picture

from macr_plugin.data.picture_files import decode_picture
from macr_plugin.data.preparation import prepare
from macr_plugin.data.preparation.prepare import prepare_gopro, prepare_hide, prepare_realblur
from macr_plugin.data.storage import resumable_lmdb
from macr_plugin.data.storage.crop_grid import CropGrid
from macr_plugin.data.storage.lmdb_format import Storage, read_meta_info, read_sizes, read_storage
from macr_plugin.errors import InputError

HEIGHT, WIDTH = 24, 40


def picture(name, height=HEIGHT, width=WIDTH):
    """A picture that differs from those of all other names."""
    seed = np.frombuffer(name.encode(), np.uint8)
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, content=None):
    return save_picture(path, picture(path.as_posix()) if content is None else content)


def stored(path):
    with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as transaction:
        return {key.decode(): bytes(value) for key, value in transaction.cursor()}


def all_files(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def silent(_):
    pass


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(resumable_lmdb, "PAIRS_PER_BATCH", 2)


@pytest.fixture
def root(tmp_path):
    """GoPro's own layout: two scenes with the same three frame names in train, one scene in test."""
    folder = tmp_path / "GOPRO_Large"
    for scene in ("train/GOPR0372_07_00", "train/GOPR0374_11_00", "test/GOPR0384_11_00"):
        for frame in ("000047", "000048", "000049"):
            for kind in ("blur", "blur_gamma", "sharp"):
                save(folder / scene / kind / f"{frame}.png")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "datasets/GoPro"


FULL = ["test_blur.lmdb", "test_sharp.lmdb", "train_blur.lmdb", "train_sharp.lmdb"]


def test_every_pair_is_stored_byte_for_byte_under_scene_and_frame(root, out):
    before = all_files(root)
    prepare_gopro(root, out, report=silent)
    assert names_in(out) == FULL
    keys = [f"{scene}/0000{frame}" for scene in ("GOPR0372_07_00", "GOPR0374_11_00") for frame in (47, 48, 49)]
    for kind in ("blur", "sharp"):
        folder = out / f"train_{kind}.lmdb"
        assert read_meta_info(folder) == keys
        assert read_sizes(folder) == dict.fromkeys(keys, (HEIGHT, WIDTH))
        sources = {key: root / "train" / key.replace("/", f"/{kind}/") for key in keys}
        assert stored(folder) == {key: file.with_suffix(".png").read_bytes() for key, file in sources.items()}
    assert all_files(root) == before


def test_blur_gamma_is_read_and_noted(root, out):
    prepare_gopro(root, out, blur="blur_gamma", report=silent)
    source = root / "train/GOPR0374_11_00/blur_gamma/000048.png"
    assert stored(out / "train_blur.lmdb")["GOPR0374_11_00/000048"] == source.read_bytes()
    assert read_storage(out / "train_blur.lmdb") == Storage("png", "blur_gamma")
    assert read_storage(out / "train_sharp.lmdb") == Storage("png", None)


def test_uncompressed_frames_are_raw_rgb_and_the_test_split_stays_png(root, out):
    prepare_gopro(root, out, storage="uncompressed", report=silent)
    assert names_in(out) == [*FULL[:2], "train_blur_uncompressed.lmdb", "train_sharp_uncompressed.lmdb"]
    folder = out / "train_sharp_uncompressed.lmdb"
    assert read_storage(folder) == Storage("uncompressed")
    value = stored(folder)["GOPR0372_07_00/000049.0000"]
    source = cv2.imread(str(root / "train/GOPR0372_07_00/sharp/000049.png"))
    np.testing.assert_array_equal(np.frombuffer(value, np.uint8).reshape(HEIGHT, WIDTH, 3), source[..., ::-1])
    line = (folder / "meta_info.txt").read_text().splitlines()[0]
    assert line == "GOPR0372_07_00/000047.raw (24,40,3) uncompressed"


def test_crops_cover_the_frames_and_the_test_split_stays_whole(root, out):
    prepare_gopro(root, out, storage="crops", crops=CropGrid(16, 10), report=silent)
    assert names_in(out) == [*FULL[:2], "train_blur_crops.lmdb", "train_sharp_crops.lmdb"]
    folder = out / "train_blur_crops.lmdb"
    # Rows from 0 and 8, columns from 0, 10, 20 and 24.
    assert read_meta_info(folder)[:9] == [
        *(f"GOPR0372_07_00/000047_s00{number}" for number in range(1, 9)),
        "GOPR0372_07_00/000048_s001",
    ]
    assert (folder / "meta_info.txt").read_text().startswith("GOPR0372_07_00/000047_s001.png (16,16,3) 1\n")
    source = cv2.imread(str(root / "train/GOPR0372_07_00/blur/000047.png"))
    values = stored(folder)
    np.testing.assert_array_equal(decode_picture(values["GOPR0372_07_00/000047_s002"], ""), source[:16, 10:26])
    np.testing.assert_array_equal(decode_picture(values["GOPR0372_07_00/000047_s008"], ""), source[8:, 24:])


@pytest.mark.parametrize(("storage", "ending", "count"), [("png", "", 6), ("crops", "_crops", 48)])
def test_stock_basicsr_reads_the_png_storages(root, out, storage, ending, count):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    prepare_gopro(root, out, storage=storage, crops=CropGrid(16, 10) if storage == "crops" else None, report=silent)
    roots = {name: str(out / f"train_{kind}{ending}.lmdb") for name, kind in (("lq", "blur"), ("gt", "sharp"))}
    dataset = PairedImageDataset(
        {
            "io_backend": {"type": "lmdb"},
            "dataroot_lq": roots["lq"],
            "dataroot_gt": roots["gt"],
            "phase": "val",
            "scale": 1,
        }
    )
    assert len(dataset) == count
    source = cv2.imread(str(root / "train/GOPR0372_07_00/sharp/000047.png"))[:16, :16, ::-1]
    expected = source.astype(np.float32).transpose(2, 0, 1) / 255
    np.testing.assert_array_equal(dataset[0]["gt"].numpy()[:, :16, :16], expected)


def test_default_crops_are_eight_from_a_frame_of_gopro():
    corners = CropGrid().corners(720, 1280)
    assert corners == [(top, left) for top in (0, 208) for left in (0, 256, 512, 768)]


def test_storages_live_side_by_side(root, out):
    prepare_gopro(root, out, report=silent)
    news = []
    prepare_gopro(root, out, storage="uncompressed", report=news.append)
    assert [line.split(":")[0] for line in news[-2:]] == ["Written", "Already there"]


@pytest.mark.parametrize(("blurred", "sharp", "noted"), [("blur", "sharp", "blur"), ("input", "target", None)])
@pytest.mark.parametrize("joint", ["-", "_"])
def test_flattened_layouts_keep_scene_and_frame(tmp_path, out, blurred, sharp, noted, joint):
    for kind in (blurred, sharp):
        for scene in ("GOPR0372_07_00", "GOPR0374_11_00"):
            save(tmp_path / "flat/train" / kind / f"{scene}{joint}000047.png")
    prepare_gopro(tmp_path / "flat", out, report=silent)
    assert read_meta_info(out / "train_blur.lmdb") == ["GOPR0372_07_00/000047", "GOPR0374_11_00/000047"]
    assert read_storage(out / "train_blur.lmdb").blur == noted
    source = tmp_path / "flat/train" / sharp / f"GOPR0374_11_00{joint}000047.png"
    assert stored(out / "train_sharp.lmdb")["GOPR0374_11_00/000047"] == source.read_bytes()


@pytest.mark.parametrize("names", [("a_000001", "other"), ("a_000001", "a-000001")])
def test_flattened_names_that_do_not_tell_scene_and_frame_are_kept(tmp_path, out, names):
    for kind in ("input", "target"):
        for name in names:
            save(tmp_path / "flat/train" / kind / f"{name}.png")
    prepare_gopro(tmp_path / "flat", out, report=silent)
    assert read_meta_info(out / "train_blur.lmdb") == sorted(names)


def test_other_formats_are_stored_as_png(tmp_path, out):
    for kind in ("input", "target"):
        save(tmp_path / "flat/test" / kind / "x.bmp")
    prepare_gopro(tmp_path / "flat", out, report=silent)
    value = stored(out / "test_blur.lmdb")["x"]
    np.testing.assert_array_equal(decode_picture(value, "x"), cv2.imread(str(tmp_path / "flat/test/input/x.bmp")))


def test_news_tell_counts_and_disk_before_writing(root, out):
    news = []
    prepare_gopro(root, out, report=news.append)
    assert news[:2] == [
        "train: 6 pairs; the data set as published has 2103",
        "test: 3 pairs; the data set as published has 1111",
    ]
    assert news[2].startswith("Needs about 0.1 MB in ")
    assert [line.split(":")[0] for line in news[3:]] == ["Written", "Written"]


def test_complete_data_set_is_named_as_published(root, out, monkeypatch):
    monkeypatch.setattr(prepare, "GOPRO_PAIRS", {"train": 6, "test": 3})
    news = []
    prepare_gopro(root, out, report=news.append)
    assert news[:2] == ["train: 6 pairs, as published", "test: 3 pairs, as published"]


def test_any_number_of_workers_gives_the_same(root, tmp_path):
    for workers in (1, 3):
        prepare_gopro(
            root, tmp_path / str(workers), storage="crops", crops=CropGrid(16, 8), workers=workers, report=silent
        )
    assert all_files(tmp_path / "1") == all_files(tmp_path / "3")


def test_second_run_finds_its_work_done(root, out):
    prepare_gopro(root, out, report=silent)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    news = []
    prepare_gopro(root, out, report=news.append)
    assert [line.split(":")[0] for line in news] == ["train", "test", "Already there", "Already there"]
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before


def test_other_settings_are_refused_without_force(root, out):
    prepare_gopro(root, out, report=silent)
    before = all_files(out)
    with pytest.raises(InputError, match=r"train_blur\.lmdb was made from other pictures or settings: --force"):
        prepare_gopro(root, out, blur="blur_gamma", report=silent)
    assert all_files(out) == before
    prepare_gopro(root, out, blur="blur_gamma", force=True, report=silent)
    assert read_storage(out / "test_blur.lmdb").blur == "blur_gamma"
    assert names_in(out) == FULL


def test_other_pictures_are_refused_without_force(root, out):
    prepare_gopro(root, out, report=silent)
    save(root / "train/GOPR0372_07_00/blur/000047.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(InputError, match="other pictures or settings"):
        prepare_gopro(root, out, report=silent)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_lmdb_is_never_replaced(root, out, force):
    (out / "train_sharp.lmdb").mkdir(parents=True)
    (out / "train_sharp.lmdb/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"train_sharp\.lmdb exists and is no LMDB"):
        prepare_gopro(root, out, force=force, report=silent)
    assert names_in(out) == ["train_sharp.lmdb"]


class Stopped(Exception):
    """In place of a kill."""


def stop_after(monkeypatch, batches, error=None):
    """Let the writer fail when it begins a later batch."""
    original, calls = resumable_lmdb.put_all, []

    def put_all(*arguments, **options):
        calls.append(None)
        # Two calls a batch; fail between the two, when the blurred pictures of a batch are in and the sharp are not.
        if len(calls) > 2 * batches + 1:
            raise error or Stopped
        return original(*arguments, **options)

    monkeypatch.setattr(resumable_lmdb, "put_all", put_all)


def count_encoded(monkeypatch):
    original, keys = resumable_lmdb.encode_pair, []

    def encode_pair(pair, recipe):
        keys.append(pair.key)
        return original(pair, recipe)

    monkeypatch.setattr(resumable_lmdb, "encode_pair", encode_pair)
    return keys


@pytest.mark.parametrize("storage", ["png", "crops", "uncompressed"])
def test_stopped_run_is_continued_to_the_same_end(root, tmp_path, out, monkeypatch, storage):
    crops = CropGrid(16, 8) if storage == "crops" else None
    prepare_gopro(root, tmp_path / "undisturbed", storage=storage, crops=crops, report=silent)
    with monkeypatch.context() as context:
        stop_after(context, batches=2)
        with pytest.raises(Stopped):
            prepare_gopro(root, out, storage=storage, crops=crops, report=silent)
    assert not list(out.glob("*.lmdb"))
    keys = count_encoded(monkeypatch)
    news = []
    prepare_gopro(root, out, storage=storage, crops=crops, report=news.append)
    assert "train: going on after 4 of 6 pairs" in news
    assert [key for key in keys if "0384" not in key] == ["GOPR0374_11_00/000048", "GOPR0374_11_00/000049"]
    assert names_in(out) == names_in(tmp_path / "undisturbed")
    for name in names_in(out):
        ours, theirs = out / name, tmp_path / "undisturbed" / name
        assert stored(ours) == stored(theirs)
        for file in ("meta_info.txt", "storage.json"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes()


@pytest.mark.parametrize("change", ["settings", "pictures"])
def test_stopped_run_is_not_continued_with_something_else(root, out, monkeypatch, change):
    with monkeypatch.context() as context:
        stop_after(context, batches=2)
        with pytest.raises(Stopped):
            prepare_gopro(root, out, report=silent)
    if change == "pictures":
        shutil.rmtree(root / "train/GOPR0372_07_00")
    prepare_gopro(root, out, blur="blur_gamma" if change == "settings" else "blur", report=silent)
    assert stored(out / "train_blur.lmdb").keys() == set(read_meta_info(out / "train_blur.lmdb"))
    assert len(read_meta_info(out / "train_blur.lmdb")) == (6 if change == "settings" else 3)
    assert names_in(out) == FULL


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_run_stopped_while_moving_into_place_is_completed(root, tmp_path, out, monkeypatch, moved):
    shutil.rmtree(root / "test")
    prepare_gopro(root, tmp_path / "undisturbed", report=silent)
    original = resumable_lmdb.publish

    def publish(partial, targets, staging):
        original(partial[:moved], targets[:moved], staging) if moved else None
        raise Stopped

    with monkeypatch.context() as context:
        context.setattr(resumable_lmdb, "publish", publish)
        with pytest.raises(Stopped):
            prepare_gopro(root, out, report=silent)
    keys = count_encoded(monkeypatch)
    prepare_gopro(root, out, report=silent)
    assert keys == []
    assert all_files(out) == all_files(tmp_path / "undisturbed")


@pytest.mark.parametrize("content", ["", "[]", '{"recipe": 1}', '{"recipe"'])
def test_unusable_progress_means_starting_over(root, out, monkeypatch, content):
    with monkeypatch.context() as context:
        stop_after(context, batches=1)
        with pytest.raises(Stopped):
            prepare_gopro(root, out, report=silent)
    (out / ".train_blur.lmdb.macr-partial/progress.json").write_text(content)
    prepare_gopro(root, out, report=silent)
    assert len(stored(out / "train_blur.lmdb")) == 6


FULL_DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    lmdb.DiskError("mdb_put: No space left on device"),
    lmdb.Error("mdb_txn_commit: Input/output error"),
]


@pytest.mark.parametrize("error", FULL_DISK, ids=lambda error: type(error).__name__)
def test_disk_that_fills_up_keeps_what_is_written_for_the_next_run(root, out, monkeypatch, error):
    with monkeypatch.context() as context:
        stop_after(context, batches=1, error=error)
        with pytest.raises(InputError) as refusal:
            prepare_gopro(root, out, report=silent)
    message = str(refusal.value)
    assert message.startswith(f"cannot write into {out} (")
    assert "run the same command again" in message
    assert "\n" not in message
    assert not list(out.glob("*.lmdb"))
    news = []
    prepare_gopro(root, out, report=news.append)
    assert "train: going on after 2 of 6 pairs" in news
    assert names_in(out) == FULL


def test_disk_that_fills_up_while_the_pairs_are_counted_keeps_them_too(root, out, monkeypatch):
    with monkeypatch.context() as context:
        stop_after(context, batches=1)
        with pytest.raises(Stopped):
            prepare_gopro(root, out, report=silent)
    staging = out / ".train_blur.lmdb.macr-partial"
    (staging / ".progress.json.unfinished").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"progress\.json could not be written \(.*run the same command again"):
        prepare_gopro(root, out, report=silent)
    news = []
    prepare_gopro(root, out, report=news.append)
    assert "train: going on after 2 of 6 pairs" in news
    assert names_in(out) == FULL


def test_map_grows_with_the_pictures(root, out, monkeypatch):
    monkeypatch.setattr(resumable_lmdb, "INITIAL_MAP_BYTES", 16 * 1024)
    prepare_gopro(root, out, report=silent)
    assert len(stored(out / "train_sharp.lmdb")) == 6


def test_disk_that_cannot_hold_it_is_refused_before_writing(root, out, monkeypatch):
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(InputError, match=r"GoPro has 0\.0 MB free and needs 0\.1 MB: free some space"):
        prepare_gopro(root, out, report=silent)
    assert names_in(out) == []


def test_second_process_is_refused(root, out, monkeypatch):
    original, refusals = resumable_lmdb.put_all, []

    def put_all(*arguments, **options):
        if not refusals:
            refusals.append(None)
            with pytest.raises(InputError, match="another process is writing into"):
                prepare_gopro(root, out, report=silent)
        return original(*arguments, **options)

    monkeypatch.setattr(resumable_lmdb, "put_all", put_all)
    prepare_gopro(root, out, report=silent)
    assert refusals
    assert len(stored(out / "train_blur.lmdb")) == 6


def grey(root):
    save(root / "train/GOPR0374_11_00/blur/000048.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    return r"blur/000048\.png is uint8 with shape \(24, 40\): convert it to 8-bit colour"


def sixteen_bits(root):
    save(root / "train/GOPR0374_11_00/sharp/000048.png", np.zeros((HEIGHT, WIDTH, 3), np.uint16))
    return r"sharp/000048\.png is uint16 with shape \(24, 40, 3\): convert it to 8-bit colour"


def cut_off(root):
    file = root / "train/GOPR0374_11_00/sharp/000049.png"
    file.write_bytes(file.read_bytes()[:-40])
    return r"sharp/000049\.png is cut off or damaged: replace it"


def damaged(root):
    file = root / "train/GOPR0374_11_00/sharp/000049.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return r"sharp/000049\.png is cut off or damaged: replace it"


def empty_file(root):
    (root / "train/GOPR0374_11_00/sharp/000049.png").write_bytes(b"")
    return r"sharp/000049\.png is not a readable picture"


def two_sizes(root):
    save(root / "test/GOPR0384_11_00/sharp/000049.png", picture("larger", HEIGHT + 2))
    return r"blur/000049\.png is 40x24 and .*sharp/000049\.png is 40x26"


def scene_without_sharp(root):
    shutil.rmtree(root / "train/GOPR0374_11_00/sharp")
    return r"train/GOPR0374_11_00 has no folder sharp"


def different_counts(root):
    (root / "train/GOPR0374_11_00/blur/000048.png").unlink()
    return r"sharp/000048\.png has no partner in .*blur: 2 pictures, sharp: 3"


def scene_without_blur(root):
    shutil.rmtree(root / "train/GOPR0374_11_00/blur")
    return r"train/GOPR0374_11_00 has no folder blur"


def accent_in_a_name(root):
    for kind in ("blur", "sharp"):
        save(root / "train/GOPR0374_11_00" / kind / "été.png")
    return r"blur/été\.png: BasicSR cannot keep the name 'GOPR0374_11_00/été'; rename it"


def names_that_differ_in_a_dot(root):
    for kind in ("blur", "sharp"):
        for name in ("000050.1", "000050_1"):
            save(root / "train/GOPR0374_11_00" / kind / f"{name}.png")
    return r"both get the key 'GOPR0374_11_00/000050_1': rename one of them"


BAD_SOURCES = [
    grey,
    sixteen_bits,
    cut_off,
    damaged,
    empty_file,
    two_sizes,
    scene_without_sharp,
    different_counts,
    scene_without_blur,
    accent_in_a_name,
    names_that_differ_in_a_dot,
]


@pytest.mark.parametrize("spoil", BAD_SOURCES, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("storage", ["png", "uncompressed"])
def test_bad_source_is_one_line_and_leaves_no_lmdb(root, out, spoil, storage, monkeypatch, capfd):
    # So that the writer meets it, not only the sample that foretells the size.
    monkeypatch.setattr(prepare, "SAMPLED_PAIRS", 1)
    message = spoil(root)
    before = all_files(root)
    with pytest.raises(InputError, match=message) as refusal:
        prepare_gopro(root, out, storage=storage, workers=2, report=silent)
    assert "\n" not in str(refusal.value)
    # The splits are written one after the other: where the test split is bad, the training split is complete.
    written = [name for name in names_in(out) if spoil is not two_sizes or not name.startswith("train_")]
    assert written == []
    assert all_files(root) == before
    assert capfd.readouterr().err == ""


def test_name_longer_than_lmdb_allows(tmp_path, out):
    deep = "/".join("n" * 200 for _ in range(3))
    for kind in ("input", "target"):
        save(tmp_path / "flat/train" / kind / f"{deep}.png")
    with pytest.raises(InputError, match="must have 1 to 506 characters"):
        prepare_gopro(tmp_path / "flat", out, report=silent)
    assert not out.exists()


def test_two_pictures_with_one_key(tmp_path, out):
    for kind in ("input", "target"):
        for name in ("x.png", "x.bmp"):
            save(tmp_path / "flat/train" / kind / name)
    with pytest.raises(InputError, match="differ in their extension only"):
        prepare_gopro(tmp_path / "flat", out, report=silent)


def test_folders_that_hold_nothing(tmp_path, out):
    with pytest.raises(InputError, match="nowhere has neither train nor test"):
        prepare_gopro(tmp_path / "nowhere", out, report=silent)
    (tmp_path / "empty/train").mkdir(parents=True)
    with pytest.raises(InputError, match="empty/train holds no scenes"):
        prepare_gopro(tmp_path / "empty", out, report=silent)
    (tmp_path / "empty/train/sharp").mkdir()
    (tmp_path / "empty/train/blur").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        prepare_gopro(tmp_path / "empty", out, report=silent)
    assert not out.exists()


def test_blur_gamma_of_a_layout_without_it(tmp_path, out):
    for kind in ("blur", "sharp", "input", "target"):
        save(tmp_path / ("one" if kind in ("blur", "sharp") else "two") / "train" / kind / "a_000001.png")
    with pytest.raises(InputError, match="one/train/blur_gamma is not a folder"):
        prepare_gopro(tmp_path / "one", out, blur="blur_gamma", report=silent)
    with pytest.raises(InputError, match="two/train holds input and target, not blur_gamma"):
        prepare_gopro(tmp_path / "two", out, blur="blur_gamma", report=silent)


def test_output_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        prepare_gopro(root, tmp_path / "file/GoPro", report=silent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": CropGrid()}, "go with --storage crops, not png"),
        ({"storage": "crops"}, "is 40x24, smaller than a crop of 512: lower --crop-size"),
        ({"workers": 0}, "--workers is 0"),
    ],
)
def test_unusable_options(root, out, options, message):
    with pytest.raises(InputError, match=message):
        prepare_gopro(root, out, report=silent, **options)


@pytest.mark.parametrize("grid", [(0, 1), (1, 0)])
def test_unusable_crops(grid):
    with pytest.raises(InputError, match="choose 1 or more"):
        CropGrid(*grid)


def test_hide_as_published(tmp_path, out):
    root = tmp_path / "HIDE_dataset"
    for name in ("test-close-ups/1fromGOPR0977", "test-long-shot/2fromGOPR1034"):
        save(root / "test" / f"{name}.png")
        save(root / "GT" / f"{name.split('/')[1]}.png")
    save(root / "GT/3fromGOPR1050.png")  # GT holds the partners of the training split too
    prepare_hide(root, out, report=silent)
    assert names_in(out) == FULL[:2]
    assert read_meta_info(out / "test_blur.lmdb") == ["test-close-ups/1fromGOPR0977", "test-long-shot/2fromGOPR1034"]
    sharp = stored(out / "test_sharp.lmdb")
    assert sharp["test-long-shot/2fromGOPR1034"] == (root / "GT/2fromGOPR1034.png").read_bytes()
    assert json.loads((out / "test_blur.lmdb/storage.json").read_text())["blur"] is None
    (root / "GT/1fromGOPR0977.png").unlink()
    with pytest.raises(InputError, match=r"test-close-ups/1fromGOPR0977\.png has no partner in .*GT"):
        prepare_hide(root, tmp_path / "other", report=silent)


def test_hide_flattened(tmp_path, out):
    for kind in ("input", "target"):
        save(tmp_path / "HIDE" / kind / "1fromGOPR0977.png")
    prepare_hide(tmp_path / "HIDE", out, report=silent)
    assert read_meta_info(out / "test_blur.lmdb") == ["1fromGOPR0977"]


def basicsr_values(folder):
    """Keys and values of an LMDB as BasicSR's own reader finds them."""
    paths = paired_paths_from_lmdb([str(folder), str(folder)], ["lq", "gt"])
    client = FileClient("lmdb", db_paths=[str(folder)], client_keys=["lq"])
    return {path["lq_path"]: bytes(client.get(path["lq_path"], "lq")) for path in paths}


def test_names_with_dots_are_stored_so_that_basicsr_finds_them(tmp_path, out):
    root = tmp_path / "HIDE_dataset"
    for name in ("test-close-ups/1fromGOPR1096.MP4", "test-close-ups/10fromGOPR1096.MP4", "test-long-shot/2.b.c"):
        save(root / "test" / f"{name}.png")
        save(root / "GT" / f"{name.split('/')[1]}.png")
    prepare_hide(root, out, report=silent)
    read = basicsr_values(out / "test_sharp.lmdb")
    assert sorted(read) == [
        "test-close-ups/10fromGOPR1096_MP4",
        "test-close-ups/1fromGOPR1096_MP4",
        "test-long-shot/2_b_c",
    ]
    assert read["test-long-shot/2_b_c"] == (root / "GT/2.b.c.png").read_bytes()


@pytest.mark.parametrize("storage", ["png", "uncompressed", "crops"])
def test_scenes_and_frames_with_dots(tmp_path, out, storage):
    for kind in ("blur", "sharp"):
        for name in ("1.v1", "1.v2"):
            save(tmp_path / "GoPro/train/scene.a" / kind / f"{name}.png")
    prepare_gopro(
        tmp_path / "GoPro", out, storage=storage, crops=CropGrid(20, 20) if storage == "crops" else None, report=silent
    )
    keys = read_meta_info(next(out.glob("train_blur*.lmdb")))
    assert {key[:12] for key in keys} == {"scene_a/1_v1", "scene_a/1_v2"}


@pytest.mark.parametrize("subset", ["J", "R"])
def test_realblur_as_published(tmp_path, out, subset):
    root = tmp_path / "RealBlur"
    folder = {
        "J": "RealBlur-J_ECC_IMCORR_centroid_itensity_ref",
        "R": "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref",
    }
    lines = []
    for scene in ("scene230", "scene004"):
        for frame in (7, 10):
            sharp = f"{folder[subset]}/{scene}/gt/gt_{frame}.png"
            blur = f"{folder[subset]}/{scene}/blur/blur_{frame}.png"
            save(root / sharp)
            save(root / blur)
            lines.append(f"{sharp} {blur}\n")
    (root / f"RealBlur_{subset}_test_list.txt").write_text("".join(lines))
    prepare_realblur(root, out, subset, report=silent)
    keys = ["scene004/10", "scene004/7", "scene230/10", "scene230/7"]
    assert read_meta_info(out / "test_blur.lmdb") == keys
    source = root / folder[subset] / "scene230/gt/gt_7.png"
    assert stored(out / "test_sharp.lmdb")["scene230/7"] == source.read_bytes()


def test_realblur_with_an_unusable_list(tmp_path, out):
    root = tmp_path / "RealBlur"
    save(root / "J/scene001/gt/gt_1.png")
    blur = save(root / "J/scene001/blur/blur_1.png")
    listing = root / "RealBlur_J_test_list.txt"
    line = "J/scene001/gt/gt_1.png J/scene001/blur/blur_1.png\n"
    listing.write_text(line * 2)
    with pytest.raises(InputError, match=r"both get the key 'scene001/1'"):
        prepare_realblur(root, out, report=silent)
    listing.write_text("\n")
    with pytest.raises(InputError, match="lists no pictures"):
        prepare_realblur(root, out, report=silent)
    blur.unlink()
    listing.write_text(line)
    with pytest.raises(InputError, match=r"the line 'J/scene001.*blur_1\.png' does not name two files"):
        prepare_realblur(root, out, report=silent)


@pytest.mark.parametrize("folder", ["", "RealBlur_R"])
def test_realblur_flattened(tmp_path, out, folder):
    for kind in ("input", "target"):
        save(tmp_path / "RealBlur" / folder / kind / "scene001_1.png")
    prepare_realblur(tmp_path / "RealBlur", out, "R", report=silent)
    assert read_meta_info(out / "test_blur.lmdb") == ["scene001_1"]


def test_hide_and_realblur_in_a_folder_without_them(tmp_path, out):
    with pytest.raises(InputError, match="is not a folder"):
        prepare_hide(tmp_path / "nowhere", out, report=silent)
    with pytest.raises(InputError, match="has neither test and GT nor input and target"):
        prepare_hide(tmp_path, out, report=silent)
    with pytest.raises(InputError, match=r"has neither RealBlur_J_test_list\.txt nor input and target"):
        prepare_realblur(tmp_path, out, report=silent)
