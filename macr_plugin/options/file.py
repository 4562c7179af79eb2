"""Reads option files, never running what their tags may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError

Options = dict[str, Any]

#: Values of an option file, those of aliases counted wherever they stand: ours have about a hundred.
MOST_VALUES = 100_000


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
        if _count(content, {}, ()) > MOST_VALUES:
            raise InputError(f"{path} is not plain YAML: its aliases make it too long: write the blocks out")
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


def _count(value: Any, counted: dict[int, int], around: tuple[int, ...]) -> int:
    """Number of values in a value, those of aliases counted each time.

    Args:
        value: Any.
        counted: Numbers of blocks that are known.
        around: The blocks in which it stands.

    Raises:
        RecursionError: If an anchor makes a block hold itself.
    """
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) in around:
        raise RecursionError
    if id(value) not in counted:
        parts = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(part, counted, (*around, id(value))) for part in parts)
    return counted[id(value)]
