"""The patch of how BasicSR opens LMDBs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any, Protocol


class Environments(Protocol):
    """Shares one open environment of each path in a process."""

    def get(self, path: str, key: str, **options: Any) -> bytes | None:
        """Value of a key in the LMDB at ``path``, None if there is none; ``options`` are those of ``lmdb.open``."""


def refuses_second_environment() -> bool:
    """Whether lmdb refuses to open an environment that the process has open already."""
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        first = lmdb.open(folder)
        try:
            lmdb.open(folder).close()
        except lmdb.Error:
            return True
        finally:
            first.close()
    return False


def patch_lmdb_environments(environments: Environments) -> None:
    """Share one LMDB environment a process among BasicSR's file clients.

    Without it, training and validating on the same LMDB ends with lmdb's "already open in this process".

    Args:
        environments: Those that this process shares.
    """
    from basicsr.utils.file_client import FileClient, LmdbBackend

    if not refuses_second_environment():
        return

    class SharedLmdbBackend(LmdbBackend):
        """BasicSR's LMDB backend over the environments of this process."""

        def __init__(
            self,
            db_paths: str | Sequence[str],
            client_keys: str | Sequence[str] = "default",
            readonly: bool = True,
            lock: bool = False,
            readahead: bool = False,
            **kwargs: Any,
        ) -> None:
            self.db_paths = [db_paths] if isinstance(db_paths, str) else [str(path) for path in db_paths]
            names = [client_keys] if isinstance(client_keys, str) else client_keys
            self._paths = dict(zip(names, self.db_paths, strict=True))
            self._options = {"readonly": readonly, "lock": lock, "readahead": readahead, **kwargs}

        def get(self, filepath: str, client_key: str) -> bytes | None:
            """Value of the key ``filepath`` in the LMDB that ``client_key`` names."""
            return environments.get(self._paths[client_key], str(filepath), **self._options)

    FileClient._backends["lmdb"] = SharedLmdbBackend
