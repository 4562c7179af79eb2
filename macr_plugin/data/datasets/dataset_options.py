"""Read the options of a dataset, and name them for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from macr_plugin.errors import InputError


def require_option(opt: Mapping[str, Any], name: str) -> Any:
    """Read an option that has no default.

    Args:
        opt: Options of the dataset.
        name: Name of the option.

    Returns:
        Its value.

    Raises:
        InputError: It is not set.
    """
    value = opt.get(name)
    if value is None:
        raise InputError(f"{option_name(opt, name)} is not set: add it to the YAML file")
    return value


def option_name(opt: Mapping[str, Any], name: str) -> str:
    """Name an option for a message.

    Args:
        opt: Options of the dataset.
        name: Name of the option.

    Returns:
        Where it stands in the YAML file.
    """
    return f"datasets.{opt['phase']}.{name}"
