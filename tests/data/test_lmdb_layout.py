import lmdb
import numpy as np
import pytest

from macr_plugin.data.lmdb_layout import find_values
from macr_plugin.errors import InputError


def write(path, items, **options):
    with lmdb.open(str(path), map_size=2**26, **options) as database:
        for key, value in items:
            with database.begin(write=True) as transaction:
                transaction.delete(key.encode()) if value is None else transaction.put(key.encode(), value)


def assert_found(path):
    """Every value is where the module says, as lmdb reads it."""
    data = (path / "data.mdb").read_bytes()
    found = find_values(path)
    with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as transaction:
        expected = {key.decode(): value for key, value in transaction.cursor()}
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert data[found[key].start :][: found[key].length] == value


@pytest.mark.parametrize("count", [1, 2, 100, 3000])
def test_trees_of_any_depth(tmp_path, count):
    generator = np.random.default_rng(count)
    items = [(f"scene {n % 7}/{n:06d}", generator.bytes(int(generator.integers(0, 3000)))) for n in range(count)]
    with lmdb.open(str(tmp_path / "a.lmdb"), map_size=2**26, sync=False) as database:
        for key, value in items:
            with database.begin(write=True) as transaction:
                transaction.put(key.encode(), value)
    assert_found(tmp_path / "a.lmdb")


def test_large_values_that_were_replaced_and_deleted(tmp_path):
    generator = np.random.default_rng(0)
    items = [(f"{n % 40:03d}", generator.bytes(int(generator.integers(1, 200_000)))) for n in range(120)]
    write(tmp_path / "a.lmdb", [*items, *((f"{n:03d}", None) for n in range(0, 40, 3))], sync=False)
    assert_found(tmp_path / "a.lmdb")


def test_nothing_stored(tmp_path):
    write(tmp_path / "a.lmdb", [])
    assert find_values(tmp_path / "a.lmdb") == {}


@pytest.mark.parametrize("content", [b"", b"rubbish", b"rubbish" * 5000])
def test_file_that_is_no_lmdb(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(InputError, match=r"data\.mdb cannot be read \(cut short, or no LMDB of format 1\): recreate"):
        find_values(tmp_path)


@pytest.mark.parametrize("kept", [100, 4096, 8192, 50_000, -1])
def test_file_that_is_cut_short(tmp_path, kept):
    write(tmp_path / "a.lmdb", [(f"{n}", b"x" * 4096 * n) for n in range(1, 10)])
    file = tmp_path / "a.lmdb" / "data.mdb"
    file.write_bytes(file.read_bytes().rstrip(b"\0")[:kept])
    with pytest.raises(InputError, match=r"data\.mdb cannot be read \(cut short"):
        find_values(tmp_path / "a.lmdb")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*data\.mdb: No such file"):
        find_values(tmp_path)
