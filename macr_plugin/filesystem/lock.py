"""Locks on what one process alone may write."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from macr_plugin.errors import FREE_DISK_SPACE, DiskError, InputError


class FileLock:
    """A lock file, held by this process until :meth:`release` or its end, however that comes.

    The system holds the lock, so that a dead process leaves none behind, whatever file it leaves. Processes that are
    forked or spawned do not hold it. It works on network folders whose server keeps locks (NFS since version 4 or with
    its lock service); where a file system keeps none, a line on standard error says that nothing is locked.

    Args:
        path: The lock file; folders above it are made, and removed with it where they are empty.
        busy: What the message says where another process holds the lock.

    Attributes:
        descriptor: The open file, which a process that it is passed on to holds locked too; None once released.

    Raises:
        InputError: If another process holds the lock, naming it, or the file cannot be written.
    """

    def __init__(self, path: Path, busy: str) -> None:
        self._path = path
        self._made = [folder for folder in path.parents if not folder.exists()]
        self.descriptor: int | None = None
        try:
            while self.descriptor is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.descriptor = self._take(busy)
            os.truncate(self.descriptor, 0)
            os.write(self.descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except OSError as error:
            if self.descriptor is not None:
                with suppress(OSError):
                    path.unlink()
            self._let_go()
            raise DiskError(f"cannot write into {path.parent}: {error.strerror}: {FREE_DISK_SPACE}") from error
        os.register_at_fork(after_in_child=self._let_go)
        atexit.register(self.release)

    def _take(self, busy: str) -> int | None:
        """Lock the file; None if it was removed meanwhile by the process that held it."""
        # Windows has no such module, and this one is imported there too.
        import fcntl

        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            raise InputError(f"{busy}: wait for {holder or 'it'}, or end it") from error
        except OSError as error:
            reason = f"{self._path} cannot be locked ({error.strerror})"
            print(f"{reason}: nothing keeps a second process away.", file=sys.stderr, flush=True)
        if self._path.exists() and os.path.samestat(os.fstat(descriptor), self._path.stat()):
            return descriptor
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Let other processes have the lock, and remove its file; does nothing when called again."""
        if self.descriptor is None:
            return
        atexit.unregister(self.release)
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._let_go()
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _let_go(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
