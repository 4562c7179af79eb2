import errno
import json
import signal
import subprocess
import sys
import time
import zlib

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

from macr_plugin.data.picture_files import decode_picture, encode_png
from macr_plugin.data.storage.lmdb_format import Storage, read_meta_info, read_sizes, read_storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.errors import InputError


def noise(seed=0, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def names_in(folder):
    return [entry.name for entry in folder.iterdir()]


def stored(path):
    with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as transaction:
        return {key.decode(): bytes(value) for key, value in transaction.cursor()}


def test_pictures_come_back_and_the_list_is_as_basicsr_writes_it(tmp_path):
    items = [("s/000002", encode_png(noise(2))), ("s/000001", encode_png(noise(1, 8, 9)))]
    assert write_image_lmdb(tmp_path / "x.lmdb", items) == 2
    values = stored(tmp_path / "x.lmdb")
    np.testing.assert_array_equal(decode_picture(values["s/000002"], "x"), noise(2))
    np.testing.assert_array_equal(decode_picture(values["s/000001"], "x"), noise(1, 8, 9))
    text = (tmp_path / "x.lmdb/meta_info.txt").read_text()
    assert text == "s/000002.png (20,30,3) 1\ns/000001.png (8,9,3) 1\n"
    assert read_meta_info(tmp_path / "x.lmdb") == ["s/000002", "s/000001"]
    assert names_in(tmp_path) == ["x.lmdb"]


def test_list_equals_that_of_basicsr(tmp_path):

    (tmp_path / "s").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"s/{name}.png"), noise())
    make_lmdb_from_imgs(str(tmp_path), str(tmp_path / "theirs.lmdb"), ["s/a.png", "s/b.png"], ["s/a", "s/b"])
    write_image_lmdb(tmp_path / "ours.lmdb", [(f"s/{name}", tmp_path / f"s/{name}.png") for name in ("a", "b")])
    ours, theirs = ((tmp_path / name / "meta_info.txt").read_text() for name in ("ours.lmdb", "theirs.lmdb"))
    assert ours == theirs


def test_png_files_are_stored_as_they_are_and_others_as_png(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), noise(), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    cv2.imwrite(str(tmp_path / "b.bmp"), noise())
    write_image_lmdb(tmp_path / "x.lmdb", [("a", tmp_path / "a.png"), ("b", tmp_path / "b.bmp")])
    values = stored(tmp_path / "x.lmdb")
    assert values["a"] == (tmp_path / "a.png").read_bytes()
    assert values["b"].startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_picture(values["b"], "b"), noise())


def test_uncompressed_frames_are_bands_of_raw_rgb_rows(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), noise(height=70))
    items = [("s/1", encode_png(noise(1, 8, 9))), ("a", tmp_path / "a.png")]
    write_image_lmdb(tmp_path / "x.lmdb", items, Storage("uncompressed", "blur_gamma"))
    values = stored(tmp_path / "x.lmdb")
    rows = noise(height=70)[..., ::-1]
    assert values == {
        "a.0000": rows[:32].tobytes(),
        "a.0001": rows[32:64].tobytes(),
        "a.0002": rows[64:].tobytes(),
        "a.crc": b"".join(zlib.crc32(rows[top : top + 32].tobytes()).to_bytes(4, "little") for top in (0, 32, 64)),
        "s/1.0000": noise(1, 8, 9)[..., ::-1].tobytes(),
        "s/1.crc": zlib.crc32(noise(1, 8, 9)[..., ::-1].tobytes()).to_bytes(4, "little"),
    }
    text = (tmp_path / "x.lmdb/meta_info.txt").read_text()
    assert text == "s/1.raw (8,9,3) uncompressed\na.raw (70,30,3) uncompressed\n"
    assert read_meta_info(tmp_path / "x.lmdb") == ["s/1", "a"]
    assert read_sizes(tmp_path / "x.lmdb") == {"s/1": (8, 9), "a": (70, 30)}
    assert read_storage(tmp_path / "x.lmdb") == Storage("uncompressed", "blur_gamma")
    described = json.loads((tmp_path / "x.lmdb/storage.json").read_text())
    assert described == {"storage": "uncompressed", "blur": "blur_gamma", "rows_per_band": 32, "checksums": True}


def test_number_of_rows_comes_from_the_lmdb(tmp_path):
    write_image_lmdb(tmp_path / "x.lmdb", [("a", encode_png(noise()))], Storage("uncompressed", rows_per_band=7))
    assert [len(value) for value in stored(tmp_path / "x.lmdb").values()] == [630, 630, 540, 12]
    assert read_storage(tmp_path / "x.lmdb").rows_per_band == 7


@pytest.mark.parametrize("encoding", ["png", "uncompressed"])
def test_longest_key(tmp_path, encoding):
    write_image_lmdb(tmp_path / "x.lmdb", [("s" * 506, encode_png(noise(height=40)))], Storage(encoding))
    assert read_meta_info(tmp_path / "x.lmdb") == ["s" * 506]
    assert {key.split(".")[0] for key in stored(tmp_path / "x.lmdb")} == {"s" * 506}


def test_same_items_give_the_same_bytes(tmp_path):
    for name in ("a.lmdb", "b.lmdb"):
        write_image_lmdb(tmp_path / name, ((f"s/{i}", encode_png(noise(i))) for i in range(5)))
    assert (tmp_path / "a.lmdb/data.mdb").read_bytes() == (tmp_path / "b.lmdb/data.mdb").read_bytes()


def test_map_grows_when_later_pictures_are_larger(tmp_path, monkeypatch):
    monkeypatch.setattr("macr_plugin.data.storage.lmdb_writer.INITIAL_MAP_BYTES", 64 * 1024)
    sizes = (4, 8, 300, 8, 400)
    items = [(f"s/{i}", encode_png(noise(i, size, size))) for i, size in enumerate(sizes)]
    write_image_lmdb(tmp_path / "x.lmdb", items)
    assert stored(tmp_path / "x.lmdb") == dict(items)


def failing(error):
    yield "s/1", encode_png(noise())
    raise error


def test_failure_half_way_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="stop"):
        write_image_lmdb(tmp_path / "x.lmdb", failing(RuntimeError("stop")))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), lmdb.Error("No space left on device")]
)
def test_full_disk_names_the_folder(tmp_path, error):
    with pytest.raises(
        InputError, match=rf"cannot write into {tmp_path} \(.*No space left on device\): free some space"
    ):
        write_image_lmdb(tmp_path / "x.lmdb", failing(error))
    assert names_in(tmp_path) == []


def test_other_failures_of_the_system_keep_their_own_error(tmp_path):
    with pytest.raises(ConnectionError):
        write_image_lmdb(tmp_path / "x.lmdb", failing(ConnectionError("network folder")))


WRITE_FOR_EVER = """
import itertools, sys, numpy
from pathlib import Path
from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
png = encode_png(numpy.zeros((8, 8, 3), numpy.uint8))
write_image_lmdb(Path(sys.argv[1]), ((f"s/{i}", png) for i in itertools.count()))
"""


def test_killed_writer_leaves_nothing_under_the_name_and_the_next_one_clears_up(tmp_path):
    target = tmp_path / "x.lmdb"
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(target)])
    data = tmp_path / ".x.lmdb.macr-partial/x.lmdb/data.mdb"
    deadline = time.monotonic() + 30
    while not (data.exists() and data.stat().st_size > 50_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    write_image_lmdb(target, [("s/1", encode_png(noise()))])
    assert names_in(tmp_path) == ["x.lmdb"]


def test_existing_target_is_kept(tmp_path):
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(InputError, match=r"x\.lmdb exists"):
        write_image_lmdb(tmp_path / "x.lmdb", [])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "no pictures to write"),
        ([("s/a.b", encode_png(noise()))], "cannot keep the name 's/a.b'"),
        ([("s/ä", encode_png(noise()))], "cannot keep the name 's/ä'"),
        ([("", encode_png(noise()))], "must have 1 to 506 characters"),
        ([("s" * 507, encode_png(noise()))], "must have 1 to 506 characters"),
        ([("a", encode_png(noise())), ("a", encode_png(noise()))], "'a' comes twice"),
        ([("a", b"nothing")], "key 'a' is not a readable picture"),
    ],
)
def test_unusable_items(tmp_path, items, message):
    with pytest.raises(InputError, match=message):
        write_image_lmdb(tmp_path / "x.lmdb", items)
    assert names_in(tmp_path) == []


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*gone\.png"):
        write_image_lmdb(tmp_path / "x.lmdb", [("a", tmp_path / "gone.png")])


def test_name_without_lmdb(tmp_path):
    with pytest.raises(InputError, match=r"end in \.lmdb"):
        write_image_lmdb(tmp_path / "x", [])


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        write_image_lmdb(tmp_path / "file" / "x.lmdb", [])
