"""Files that are complete or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from macr_plugin.errors import InputError

#: What a message advises where nothing better is known.
FREE_DISK_SPACE = "free some disk space, or choose another folder"


@contextmanager
def whole_file(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it once the body has ended.

    Args:
        path: Where it shall be; folders above it are made.
        remedy: What the message advises when that fails.

    Yields:
        The file, open for writing bytes.

    Raises:
        InputError: If it cannot be written; what was at ``path`` is still there then.
    """
    unfinished = unfinished_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    # torch.save reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error}): {remedy}") from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def unfinished_file(path: Path) -> Path:
    """Where a file is while :func:`whole_file` writes it; still there only if the process was killed."""
    return path.with_name(f".{path.name}.unfinished")


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
