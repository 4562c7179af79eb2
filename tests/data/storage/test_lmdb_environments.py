"""The environments that a process shares."""

import os

import lmdb
import numpy as np
import pytest
from basicsr.utils.file_client import FileClient

from macr_plugin.basicsr_compat.lmdb_backend import patch_lmdb_environments
from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.storage.lmdb_environments import LmdbEnvironments, lmdb_environments
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.errors import InputError


def test_several_values_in_one_transaction(tmp_path):
    database = str(tmp_path / "a.lmdb")
    with lmdb.open(database) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"scene/1", b"one")
    environments, options = lmdb_environments(), {"readonly": True, "lock": False}
    assert environments.count(database, **options) == 1
    with environments.values(database, ["scene/1", "scene/2"], **options) as (first, second):
        assert bytes(first) == b"one"
        assert second is None
    with pytest.raises(RuntimeError), environments.values(database, ["scene/1"], **options):
        raise RuntimeError
    assert environments.get(database, "scene/1", **options) == b"one", "not locked"


@pytest.mark.parametrize("kept", [0.99, 0.6, 0.1])
def test_a_file_that_was_cut_off_is_refused_before_it_is_read(tmp_path, kept):
    """Reading beyond the end of a mapped file would kill this process."""
    path = tmp_path / "cut.lmdb"
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for number in range(100):
            transaction.put(b"%d" % number, bytes(5000))
    file = path / "data.mdb"
    os.truncate(file, int(kept * file.stat().st_size) // 4096 * 4096)
    for read in (lambda shared: shared.get(str(path), "99"), lambda shared: shared.count(str(path))):
        with pytest.raises(InputError, match=r"cut\.lmdb/data\.mdb is cut off: it has \d+ bytes of the \d+"):
            read(LmdbEnvironments())


def test_the_clients_of_basicsr_refuse_a_file_that_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setitem(FileClient._backends, "lmdb", FileClient._backends["lmdb"])
    write_image_lmdb(tmp_path / "x.lmdb", [(f"{n}", encode_png(np.full((64, 64, 3), n, np.uint8))) for n in range(60)])
    os.truncate(tmp_path / "x.lmdb/data.mdb", 3 * 4096)
    patch_lmdb_environments(lmdb_environments())
    client = FileClient("lmdb", db_paths=[str(tmp_path / "x.lmdb")], client_keys=["lq"])
    with pytest.raises(InputError, match="is cut off"):
        client.get("59", "lq")
