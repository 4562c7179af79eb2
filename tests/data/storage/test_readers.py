"""Parts of uncompressed pictures; the datasets' tests read whole pairs with every reader."""

import json
import pickle

import lmdb
import numpy as np
import pytest

from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.storage.lmdb_format import ROWS_PER_BAND, Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.data.storage.readers import UncompressedLmdbReader
from macr_plugin.errors import InputError

KEYS = ("s/1", "s/2")


def picture(height, width=9, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path):
    """Store pictures of one height under all keys."""

    def write(height, **settings):
        items = [(key, encode_png(picture(height, seed=seed))) for seed, key in enumerate(KEYS)]
        write_image_lmdb(tmp_path / "x.lmdb", items, Storage("uncompressed", **settings))
        return tmp_path / "x.lmdb"

    return write


def change_values(path, values):
    with lmdb.open(str(path), lock=False) as database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.delete(key.encode()) if value is None else transaction.put(key.encode(), value)


@pytest.mark.parametrize("rows_per_band", [1, 5, ROWS_PER_BAND])
@pytest.mark.parametrize("height", [1, 31, 32, 33, 64, 70, 97])
def test_every_part_is_that_of_the_picture(write, height, rows_per_band):
    frame = UncompressedLmdbReader(write(height, rows_per_band=rows_per_band)).read("s/2")
    expected = picture(height, seed=1)[..., ::-1]
    assert frame.shape == expected.shape
    np.testing.assert_array_equal(frame[:, :], expected)
    borders = {0, height}
    for border in range(0, height + 1, ROWS_PER_BAND):
        borders |= {row for row in (border - 1, border, border + 1) if 0 <= row <= height}
    for top in borders:
        for bottom in borders:
            if top < bottom:
                np.testing.assert_array_equal(frame[top:bottom, 2:7], expected[top:bottom, 2:7])
    np.testing.assert_array_equal(frame[-1:, -3:], expected[-1:, -3:])


def test_only_the_bands_of_the_crop_are_read(write):
    path = write(200)
    change_values(path, {f"s/1.{number:04d}": b"" for number in (0, 1, 5, 6)})
    frame = UncompressedLmdbReader(path).read("s/1")
    np.testing.assert_array_equal(frame[64:160, 1:5], picture(200)[64:160, 1:5, ::-1])
    for rows, number in ((slice(63, 160), 1), (slice(64, 161), 5)):
        with pytest.raises(InputError, match=rf"x\.lmdb: 's/1\.000{number}' has 0 bytes"):
            frame[rows, 1:5]
    # A failure leaves nothing locked.
    np.testing.assert_array_equal(frame[64:160, 1:5], picture(200)[64:160, 1:5, ::-1])


def test_part_is_a_copy(write):
    frame = UncompressedLmdbReader(write(40)).read("s/1")
    part = frame[0:20, :]
    part[:] = 0
    np.testing.assert_array_equal(frame[0:20, :], picture(40)[:20, :, ::-1])


def test_number_of_bands_is_checked_at_once(write):
    path = write(70)
    change_values(path, {"s/2.0002": None})
    with pytest.raises(InputError, match=r"data\.mdb holds 5 bands of 32 rows, not the 6 .*: recreate the LMDB"):
        UncompressedLmdbReader(path)


def test_band_that_is_missing(write):
    path = write(70)
    change_values(path, {"s/2.0001": None, "s/2.0007": b""})
    frame = UncompressedLmdbReader(path).read("s/2")
    with pytest.raises(InputError, match=r"x\.lmdb: 's/2\.0001' is missing, .*: recreate the LMDB"):
        frame[:40, :]


def test_band_of_another_size(write):
    path = write(70)
    change_values(path, {"s/2.0002": b"x" * 160})
    frame = UncompressedLmdbReader(path).read("s/2")
    with pytest.raises(
        InputError, match=r"'s/2\.0002' has 160 bytes, not the 162 of 6 rows of 9 pixels: recreate the LMDB"
    ):
        frame[:, :]


def test_data_that_is_no_lmdb(write):
    path = write(70)
    (path / "data.mdb").write_bytes(b"rubbish" * 1000)
    with pytest.raises(InputError, match=r"x\.lmdb cannot be read \(.*\): recreate the LMDB"):
        UncompressedLmdbReader(path)


def test_reader_that_has_read_can_be_pickled(write):
    reader = UncompressedLmdbReader(write(70))
    expected = reader.read("s/1")[:, :]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read("s/1")[:, :], expected)


def flip_a_bit(path, key, position=5):
    with lmdb.open(str(path), lock=False) as database, database.begin() as transaction:
        value = bytearray(transaction.get(key.encode()))
    value[position] ^= 16
    change_values(path, {key: bytes(value)})


@pytest.mark.parametrize("key", ["s/2.0001", "s/2.crc"])
def test_a_flipped_bit_is_found_where_it_is_asked_for(write, key):
    path = write(70)
    flip_a_bit(path, key)
    assert UncompressedLmdbReader(path).read("s/2")[:, :].shape == (70, 9, 3)
    frame = UncompressedLmdbReader(path, verify=True).read("s/2")
    np.testing.assert_array_equal(frame[64:, :], picture(70, seed=1)[64:, :, ::-1])
    with pytest.raises(InputError, match=r"x\.lmdb: 's/2\.0001' is damaged: its checksum is another one: recreate"):
        frame[40:50, 2:3]
    np.testing.assert_array_equal(UncompressedLmdbReader(path, verify=True).read("s/1")[:, :], picture(70)[..., ::-1])


def test_lmdbs_without_checksums_are_read_as_before(write):
    path = write(70, checksums=False)
    assert UncompressedLmdbReader(path).read("s/2")[:, :].shape == (70, 9, 3)
    storage = json.loads((path / "storage.json").read_text())
    del storage["checksums"]
    (path / "storage.json").write_text(json.dumps(storage))
    assert UncompressedLmdbReader(path).read("s/2")[:, :].shape == (70, 9, 3)
    with pytest.raises(InputError, match="has no checksums: prepare it again with --force"):
        UncompressedLmdbReader(path, verify=True)
