"""Reads option files, never running what their tags may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError

Options = dict[str, Any]


def read_yaml(path: Path) -> Any:
    """Read an option file without running code that its tags may name.

    Args:
        path: The YAML file.

    Raises:
        InputError: If it is missing, is no YAML or has tags that construct Python objects.
    """
    import yaml

    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.safe_load(file)
        _refuse_cycles(content, ())
        return content
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give an existing option file with -opt") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not plain YAML: byte {error.start} is no UTF-8: save it as UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}:" if mark else ""
        said = "; ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{path}{at} is not plain YAML: {' '.join(said.split())}") from error
    except RecursionError as error:
        raise InputError(
            f"{path} is not plain YAML: a block holds itself, or blocks are too deep in each other"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: an impossible date, which YAML would make an object of.
        raise InputError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error


def read_options(path: Path) -> Options:
    """Read the option file of a training or a test.

    Args:
        path: The YAML file.

    Raises:
        InputError: As :func:`read_yaml`, and if it is no mapping.
    """
    opt = read_yaml(path)
    if not isinstance(opt, dict):
        raise InputError(f"{path} has no keys: start from one of the files in options/")
    return opt


def _refuse_cycles(value: Any, around: tuple[int, ...]) -> None:
    """Raise a RecursionError where an anchor makes a block hold itself."""
    if id(value) in around:
        raise RecursionError
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(part, (dict, list)):
            _refuse_cycles(part, (*around, id(value)))
