import cv2
import lmdb
import numpy as np
import pytest
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.storage.lmdb_format import Storage, read_meta_info, read_sizes, read_storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.errors import InputError


def noise(seed=0, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stored(path):
    with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as transaction:
        return {key.decode(): bytes(value) for key, value in transaction.cursor()}


def test_storage_of_lmdbs_that_do_not_say_it(tmp_path):
    for storage in ("png", "uncompressed"):
        path = tmp_path / f"{storage}.lmdb"
        write_image_lmdb(path, [("a", encode_png(noise()))], Storage(storage))
        (path / "storage.json").unlink()
        assert read_storage(path) == Storage(storage, None)


BAD_STORAGE = ["{", "[]", "3", "{}", '{"storage": "jpeg2000"}', '{"storage": "uncompressed"}']

BAD_STORAGE += [f'{{"storage": "uncompressed", "rows_per_band": {rows}}}' for rows in ("null", '"many"', "0", "-32")]


@pytest.mark.parametrize("content", BAD_STORAGE)
def test_unreadable_storage(tmp_path, content):
    write_image_lmdb(tmp_path / "x.lmdb", [("a", encode_png(noise()))])
    (tmp_path / "x.lmdb/storage.json").write_text(content)
    with pytest.raises(InputError, match=r"storage\.json .*: recreate x\.lmdb"):
        read_storage(tmp_path / "x.lmdb")


def test_line_without_a_size(tmp_path):
    write_image_lmdb(tmp_path / "x.lmdb", [("a", encode_png(noise()))])
    (tmp_path / "x.lmdb/meta_info.txt").write_text("a.png\n")
    assert read_meta_info(tmp_path / "x.lmdb") == ["a"]
    with pytest.raises(InputError, match=r"a line 'a\.png', which tells no size"):
        read_sizes(tmp_path / "x.lmdb")


def test_lmdb_of_basicsr_with_dots_and_grey_pictures(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = ["img.v1", "img.v2", "a b (3).c"]
    for name in names:
        cv2.imwrite(str(pictures / f"{name}.png"), noise())
    cv2.imwrite(str(pictures / "grey.x.png"), noise()[..., 0])
    names.append("grey.x")
    make_lmdb_from_imgs(str(pictures), str(tmp_path / "x.lmdb"), [f"{name}.png" for name in names], names)
    assert read_meta_info(tmp_path / "x.lmdb") == names
    assert sorted(names) == list(stored(tmp_path / "x.lmdb"))
    assert list(read_sizes(tmp_path / "x.lmdb")) == names


def test_unusable_lmdb_folders(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_meta_info(tmp_path / "x.lmdb")
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(InputError, match=r"no data\.mdb"):
        read_meta_info(tmp_path / "x.lmdb")
    (tmp_path / "x.lmdb/data.mdb").write_bytes(b"")
    with pytest.raises(InputError, match=r"meta_info\.txt is missing: recreate x\.lmdb with `macr prepare`"):
        read_meta_info(tmp_path / "x.lmdb")
    (tmp_path / "x.lmdb/meta_info.txt").write_text("\n")
    with pytest.raises(InputError, match="lists no pictures"):
        read_meta_info(tmp_path / "x.lmdb")
