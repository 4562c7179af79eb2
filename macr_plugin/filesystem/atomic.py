"""Atomic writing: a file is complete under its name, or what was there before still is."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from macr_plugin.errors import DiskError

#: Bytes that a file's name may have on all usual file systems.
LONGEST_NAME = 255
#: How much more is written to a disk to learn why it takes no more.
PROBE_BYTES = 1 << 16


@contextmanager
def atomic_write(path: Path, remedy: str, durable: bool = False) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it once the body has ended.

    Args:
        path: Its final place; folders above it are made.
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
        reason = _reason(error, unfinished)
        _remove(unfinished)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            reason, remedy = "its name is too long", "choose a shorter one"
        raise DiskError(f"{path} could not be written ({reason}): {remedy}") from error
    except BaseException:
        _remove(unfinished)
        raise


def _reason(error: Exception, unfinished: Path) -> str:
    """Why a file could not be written; what torch raises does not say it, but writing on does."""
    if isinstance(error, RuntimeError):
        try:
            with unfinished.open("ab") as file:
                file.write(bytes(PROBE_BYTES))
        except OSError as cause:
            return str(cause)
    return str(error)


def _remove(unfinished: Path) -> None:
    # In a folder that became read-only it stays, and the first error is the one that tells why.
    with suppress(OSError):
        unfinished.unlink(missing_ok=True)


def unfinished_file(path: Path) -> Path:
    """Where a file is while :func:`atomic_write` writes it; still there only if the process was killed."""
    name = f".{path.name}.unfinished"
    if len(os.fsencode(name)) > LONGEST_NAME >= len(os.fsencode(path.name)):
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.unfinished"
    return path.with_name(name)


def flush_to_disk(path: Path) -> None:
    """See that the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
