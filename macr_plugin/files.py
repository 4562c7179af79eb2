"""Files that are complete or not there, and locks on what one process alone may write."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from macr_plugin.errors import FREE_DISK_SPACE, DiskError, InputError

__all__ = [
    "FREE_DISK_SPACE",
    "FileLock",
    "file_identity",
    "flush_to_disk",
    "unfinished_file",
    "walk_files",
    "whole_file",
]


@contextmanager
def whole_file(path: Path, remedy: str, durable: bool = False) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it once the body has ended.

    Args:
        path: Where it shall be; folders above it are made.
        remedy: What the message advises when that fails.
        durable: See that it is on disk, under its name, before going on: a power failure takes nothing back then.

    Yields:
        The file, open for writing bytes.

    Raises:
        DiskError: If it cannot be written; what was at ``path`` is still there then.
    """
    unfinished = unfinished_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
        if durable:
            flush_to_disk(path.parent)
    # torch.save reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        _remove(unfinished)
        raise DiskError(f"{path} could not be written ({error}): {remedy}") from error
    except BaseException:
        _remove(unfinished)
        raise


def _remove(unfinished: Path) -> None:
    # In a folder that became read-only it stays, and the first error is the one that tells why.
    with suppress(OSError):
        unfinished.unlink(missing_ok=True)


def unfinished_file(path: Path) -> Path:
    """Where a file is while :func:`whole_file` writes it; still there only if the process was killed."""
    return path.with_name(f".{path.name}.unfinished")


def flush_to_disk(path: Path) -> None:
    """See that the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def walk_files(folder: Path, left_out: Iterable[Path] = ()) -> Iterator[Path]:
    """Find the files of a folder, at any depth.

    Links to folders are followed, and no folder is visited twice, so that links that lead back end nothing. What
    begins with a dot is left out.

    Args:
        folder: The folder.
        left_out: Folders that are not visited.

    Yields:
        The files as they are reached from the folder, in no order.
    """
    seen = {file_identity(path) for path in (folder, *left_out) if path.exists()}
    for place, folders, names in os.walk(folder, followlinks=True):
        new = []
        for name in sorted(folders):
            path = Path(place, name)
            if not name.startswith(".") and path.exists() and file_identity(path) not in seen:
                seen.add(file_identity(path))
                new.append(name)
        folders[:] = new
        yield from (file for name in names if not name.startswith(".") and (file := Path(place, name)).is_file())


def file_identity(path: Path) -> tuple[int, int]:
    """What two paths of one file or folder have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino
