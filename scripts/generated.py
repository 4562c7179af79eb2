"""Files that scripts generate: written, or compared with what is there."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path


def stale(contents: Mapping[Path, str]) -> list[Path]:
    """Tell which files do not hold what they should, or are missing.

    Args:
        contents: Every generated file and its text.
    """
    return [path for path, text in contents.items() if not path.is_file() or path.read_text() != text]


def write_or_check(contents: Mapping[Path, str], purpose: str | None) -> None:
    """Write the files, or with ``--check`` on the command line end with status 1 where one is not current.

    Args:
        contents: Every generated file and its text.
        purpose: What the script is for, shown by ``--help``.
    """
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file is not current")
    if parser.parse_args().check:
        if paths := stale(contents):
            raise SystemExit(f"not current, run `make options`: {', '.join(map(str, paths))}")
        return
    for path, text in contents.items():
        path.write_text(text)
        print(f"Written: {path}")
