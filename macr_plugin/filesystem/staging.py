"""Files and folders that appear under their names together, and only when all are complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from macr_plugin.errors import DISK_ERRORS, DiskError
from macr_plugin.filesystem.atomic import flush_to_disk
from macr_plugin.filesystem.lock import FileLock


@contextmanager
def staged(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Write files or folders beside their final places and move them there only when all are complete.

    The body writes to the yielded paths. They lie in a hidden folder beside the targets, are flushed to the disk and
    renamed to the targets, in order, when the body ends; what stood there is replaced. If the body raises, the hidden
    folder is removed and the targets stay as they were. If the process is killed, the next run removes what it left.

    Args:
        targets: Final paths; all have one parent folder, which is made if need be.

    Yields:
        One path for each target, not existing yet.

    Raises:
        InputError: The parent folder cannot be written to, the disk is full, or another process writes these targets.
    """
    parent = targets[0].parent
    staging = staging_folder(targets[0])
    make_folder(parent)
    with staging_lock(staging), disk_errors(parent):
        try:
            shutil.rmtree(staging, ignore_errors=True)
            make_folder(staging)
            partial = tuple(staging / target.name for target in targets)
            yield partial
            flush(staging)
            publish(partial, targets, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def staging_folder(target: Path) -> Path:
    """Name the hidden folder beside a target in which it is written until it is complete.

    Args:
        target: Final path.

    Returns:
        Path of the folder.
    """
    return target.parent / f".{target.name}.macr-partial"


def staging_lock(staging: Path) -> FileLock:
    """Keep other processes from writing in a hidden folder.

    Args:
        staging: The folder.

    Returns:
        The lock, held until it is released.

    Raises:
        InputError: Another process holds it.
    """
    return FileLock(lock_file(staging), f"another process is writing into {staging}")


def lock_file(staging: Path) -> Path:
    """Name the file beside a hidden folder that a process holds while it writes there.

    Args:
        staging: The folder.
    """
    return staging.with_name(f"{staging.name}.lock")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Args:
        folder: Its path. It may be there already.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"cannot write into {folder.parent}: {error.strerror}") from error


@contextmanager
def disk_errors(
    folder: Path, remedy: str = "free some space or choose another folder", also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Say in one line that the disk is full or read-only.

    Args:
        folder: What the message names: where the body writes.
        remedy: What the message advises.
        also: Errors of libraries that mean such a disk too.

    Raises:
        DiskError: In place of what the system or a library raises on such a disk.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except kinds as error:
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        raise DiskError(f"cannot write into {folder} ({error}): {remedy}") from error


def publish(partial: Sequence[Path], targets: Sequence[Path], staging: Path) -> None:
    """Move complete files or folders to their final places, in order; what stood there is replaced.

    Args:
        partial: Where they lie, in the staging folder, flushed to the disk.
        targets: Final path of each.
        staging: The staging folder.
    """
    for source, target in zip(partial, targets, strict=True):
        if target.exists():
            # Aside rather than deleted in place: a kill while deleting would leave half a data set.
            target.rename(staging / f"replaced {target.name}")
        source.rename(target)
    flush_to_disk(targets[0].parent)


def flush(folder: Path) -> None:
    """Force a folder and all in it to the disk."""
    for path in (folder, *folder.rglob("*")):
        flush_to_disk(path)
