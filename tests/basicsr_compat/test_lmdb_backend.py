"""One environment a process for BasicSR's LMDB clients."""

import lmdb
import pytest
from basicsr.utils.file_client import FileClient
from torch.utils.data import DataLoader, Dataset

from macr_plugin.basicsr_compat import lmdb_backend
from macr_plugin.data.storage.lmdb_environments import lmdb_environments


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "a.lmdb"
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"scene/1", b"one")
    return str(path)


def open_client(path):
    return FileClient("lmdb", db_paths=[path, path + "/."], client_keys=["lq", "gt"])


class Values(Dataset):
    """Reads a value in a data loading worker."""

    def __init__(self, path):
        self.path, self.client = path, None

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.client is None:
            self.client = open_client(self.path)
        return self.client.get("scene/1", "gt")


@pytest.mark.skipif(not lmdb_backend.refuses_second_environment(), reason="this lmdb opens an environment twice")
def test_one_lmdb_serves_every_client_and_worker(database):
    with pytest.raises(lmdb.Error, match="already open"):
        open_client(database)
    lmdb_backend.patch_lmdb_environments(lmdb_environments())
    first, second = open_client(database), open_client(database)
    loader = DataLoader(Values(database), num_workers=2)
    for _ in range(3):
        assert first.get("scene/1", "lq") == second.get("scene/1", "gt") == b"one"
        # Workers fork while this process has the environment open.
        assert list(loader) == [[b"one"], [b"one"]]
    assert first.get("scene/2", "lq") is None


def test_an_lmdb_that_opens_twice_needs_no_patch(monkeypatch):
    monkeypatch.setattr(lmdb_backend, "refuses_second_environment", lambda: False)
    backend = FileClient._backends["lmdb"]
    lmdb_backend.patch_lmdb_environments(lmdb_environments())
    assert FileClient._backends["lmdb"] is backend
