"""Imports Python files of the user that register networks, losses or datasets of their own with BasicSR."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from macr_plugin.errors import InputError


def import_files(paths: Iterable[Path]) -> None:
    """Import Python files by path; one that was imported before is left alone.

    Args:
        paths: The files; the module's name is the file's, without ``.py``.

    Raises:
        InputError: If one is missing, has the name of a module that is imported already, or raises an error itself.
    """
    for path in paths:
        path = path.resolve()
        imported = sys.modules.get(path.stem)
        if imported is None:
            _import_file(path)
        elif Path(getattr(imported, "__file__", None) or "") != path:
            raise InputError(f"--import {path}: a module named {path.stem} is imported already: rename the file")


def _import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise InputError(f"--import {path}: there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    # Before it runs: classes look their module up there when they are pickled.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        raise InputError(f"--import {path}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def take_imports(arguments: list[str]) -> list[Path]:
    """Take every ``--import FILE`` and ``--import=FILE`` out of command line arguments.

    Args:
        arguments: The program's name and its arguments; changed in place.

    Returns:
        The files.

    Raises:
        InputError: If an ``--import`` names no file.
    """
    parser = argparse.ArgumentParser(prog="--import", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--import", dest="imports", action="append", default=[])
    try:
        taken, arguments[1:] = parser.parse_known_args(arguments[1:])
    except argparse.ArgumentError:
        taken = argparse.Namespace(imports=[""])
    if "" in taken.imports:
        raise InputError("--import names no file: give the Python file that registers your network")
    return [Path(path) for path in taken.imports]
