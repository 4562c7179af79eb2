"""The one exception that means "the input is wrong, and this is how to mend it", and how a program ends on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input that the user can put right.

    Its message is one line that names the file, key or value and the remedy. The command line tools print that line
    alone and exit with status 2; every other exception keeps its traceback.
    """


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
    """Turn an :class:`InputError` into one line on standard error and exit status 2.

    Args:
        program: Name in front of the message.

    Raises:
        SystemExit: With status 2, in place of an :class:`InputError`.
    """
    try:
        yield
    except InputError as error:
        print_lines(program, error)
        raise SystemExit(2) from None


def print_lines(program: str, error: InputError) -> None:
    """Print an error on standard error, one line for each mistake.

    Args:
        program: Name in front of each line.
        error: What is wrong.
    """
    if isinstance(error, InputErrors):
        lines: Sequence[str] = error.lines
    else:
        # An error from a data loading worker arrives wrapped into that worker's traceback, the message last.
        lines = [str(error).strip().splitlines()[-1].removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")]
    for line in lines:
        print(f"{program}: error: {line}", file=sys.stderr)
