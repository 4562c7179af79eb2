"""The environments that a process shares."""

import lmdb
import pytest

from macr_plugin.data.lmdb_environments import lmdb_environments


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
