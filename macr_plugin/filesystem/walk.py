"""Finds the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def walk_files(folder: Path, left_out: Iterable[Path] = (), irregular: bool = False) -> Iterator[Path]:
    """Find the files of a folder, at any depth.

    Links to folders are followed, and no folder is visited twice, so that links that lead back end nothing. What
    begins with a dot is left out.

    Args:
        folder: Where to look.
        left_out: Folders that are not visited.
        irregular: Also yield what is no file, such as broken links and pipes, and the folders that cannot be listed.

    Yields:
        The files as they are reached from the folder, in no order.
    """
    seen = {file_identity(path) for path in (folder, *left_out) if path.exists()}
    unlisted: list[Path] = []
    for place, folders, names in os.walk(
        folder, followlinks=True, onerror=lambda error: unlisted.append(Path(error.filename))
    ):
        new = []
        for name in sorted(folders):
            path = Path(place, name)
            if not name.startswith(".") and path.exists() and file_identity(path) not in seen:
                seen.add(file_identity(path))
                new.append(name)
        folders[:] = new
        files = (Path(place, name) for name in names if not name.startswith("."))
        yield from (file for file in files if irregular or file.is_file())
    if irregular:
        yield from unlisted


def file_identity(path: Path) -> tuple[int, int]:
    """What two paths of one file or folder have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino
