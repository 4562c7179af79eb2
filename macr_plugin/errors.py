"""The one exception that means "the input is wrong, and this is how to correct it", and how a program ends on it."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

#: What the system says where nothing can be written: full, over quota, read-only, not allowed.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
#: What a message advises where nothing better is known.
FREE_DISK_SPACE = "free some disk space, or choose another folder"


class InputError(ValueError):
    """Bad input that the user can put right.

    Its message is one line that names the file, key or value and the remedy. The command line tools print that line
    alone and exit with status 2; every other exception keeps its traceback.
    """


class DiskError(InputError):
    """A file that cannot be written: the disk is full or read-only, or the folder is somebody else's."""


class InputErrors(InputError):
    """Several mistakes at once, each in a line of its own.

    Args:
        lines: One for each mistake.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Turn an :class:`InputError`, or a disk that takes no more, into one line on standard error and exit status 2.

    Args:
        program: Name in front of the message.

    Raises:
        SystemExit: With status 2, in place of such an error.
    """
    try:
        yield
    except InputError as error:
        print_lines(program, error)
        raise SystemExit(2) from None
    except OSError as error:
        if not is_disk_error(error):
            raise
        print_lines(program, error)
        raise SystemExit(2) from None


def is_disk_error(error: BaseException) -> bool:
    """Whether an error means that nothing more can be written: the disk is full or read-only, or not ours."""
    return isinstance(error, DiskError) or (isinstance(error, OSError) and error.errno in DISK_ERRORS)


def print_lines(program: str, error: InputError | OSError) -> None:
    """Print an error on standard error, one line for each mistake.

    Args:
        program: Name in front of each line.
        error: What is wrong, or an error of the disk.
    """
    if isinstance(error, InputErrors):
        lines: Sequence[str] = error.lines
    elif isinstance(error, OSError):
        lines = [f"{error}: {FREE_DISK_SPACE}"]
    else:
        # An error from a data loading worker arrives wrapped into that worker's traceback, the message last.
        name = f"{type(error).__module__}.{type(error).__name__}: "
        lines = [str(error).strip().splitlines()[-1].removeprefix(name)]
    for line in lines:
        print(f"{program}: error: {line}", file=sys.stderr)


def nearest_name(name: str, known: Collection[str]) -> str:
    """Tell what somebody who wrote an unknown name may have meant, as the end of a message.

    Args:
        name: What was written.
        known: Names that are right.
    """
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}"


def first_line(error: Exception) -> str:
    """First line of an error's message; empty if it has none."""
    return next(iter(str(error).strip().splitlines()), "")
