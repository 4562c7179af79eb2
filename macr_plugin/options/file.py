"""Reads option files, never running what their tags may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError

Options = dict[str, Any]

REQUIRED_KEYS = ("name", "model_type", "num_gpu", "datasets", "path")


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
            return yaml.safe_load(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give an existing option file with -opt") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error


def read_options(path: Path) -> Options:
    """Read the option file of a training or a test, and see that the indispensable keys are there.

    Args:
        path: The YAML file.

    Raises:
        InputError: As :func:`read_yaml`, and if it is no mapping or lacks a key.
    """
    opt = read_yaml(path)
    if not isinstance(opt, dict):
        raise InputError(f"{path} has no keys: start from one of the files in options/")
    for key in REQUIRED_KEYS:
        if opt.get(key) is None:
            raise InputError(f"{path} lacks the key {key}: see options/macr_gopro.yml for its meaning")
    return opt
