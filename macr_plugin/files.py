"""Files that are complete or not there."""

from __future__ import annotations

from collections.abc import Iterator
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
