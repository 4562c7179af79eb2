"""The LMDB environments that a process has open, shared by all its readers."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError


class LmdbEnvironments:
    """The open LMDB environments of this process, one for each path.

    They are closed before a fork, and each side opens its own at the next read: an environment must not be used across
    a fork, and lmdb 2 and later refuse to open a second one of the same path, in the child as well.
    """

    def __init__(self) -> None:
        self._environments: dict[str, Any] = {}
        self._lock = threading.Lock()
        os.register_at_fork(
            before=self._close_and_lock, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )

    def get(self, path: str, key: str, **options: Any) -> bytes | None:
        """Value of a key, None if there is none.

        Args:
            path: Folder of the environment.
            key: ASCII key.
            options: Passed to ``lmdb.open`` where the environment is not open yet.
        """
        with self.values(path, [key], **options) as (value,):
            return None if value is None else bytes(value)

    @contextmanager
    def values(self, path: str, keys: Sequence[str], **options: Any) -> Iterator[list[memoryview | None]]:
        """Values of several keys without a copy, in one transaction.

        Other threads wait for the end of the body: what it does should be short, and must not read an environment.

        Args:
            path: Folder of the environment.
            keys: ASCII keys.
            options: Passed to ``lmdb.open`` where the environment is not open yet.

        Yields:
            The values, None for a key that is not there. Valid in the body only.
        """
        with self._lock, self._open(path, options).begin(buffers=True) as transaction:
            yield [transaction.get(key.encode("ascii")) for key in keys]

    def count(self, path: str, **options: Any) -> int:
        """Number of keys, which LMDB knows without reading them.

        Args:
            path: Folder of the environment.
            options: Passed to ``lmdb.open`` where the environment is not open yet.
        """
        with self._lock:
            return self._open(path, options).stat()["entries"]

    def _open(self, path: str, options: Mapping[str, Any]) -> Any:
        import lmdb

        real_path = os.path.realpath(path)
        if real_path not in self._environments:
            environment = lmdb.open(real_path, **options)
            refuse_cut_file(environment, real_path)
            self._environments[real_path] = environment
        return self._environments[real_path]

    def _close_and_lock(self) -> None:
        self._lock.acquire()
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()


def refuse_cut_file(environment: Any, path: str) -> None:
    """Refuse an LMDB whose file ends before its last page: reading beyond its end kills the process (SIGBUS).

    Args:
        environment: The open environment; it is closed if it is refused.
        path: Its folder, or its file where it was opened without ``subdir``.

    Raises:
        InputError: The file is shorter than LMDB's own count of its pages.
    """
    file = Path(path, "data.mdb") if Path(path).is_dir() else Path(path)
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = file.stat().st_size
    if found < needed:
        environment.close()
        raise InputError(
            f"{file} is cut off: it has {found} bytes of the {needed} that it should have: copy or write the LMDB again"
        )


@functools.cache
def lmdb_environments() -> LmdbEnvironments:
    """The environments that all readers of this process share."""
    return LmdbEnvironments()
