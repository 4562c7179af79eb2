"""Patches of how BasicSR reads its command line: the launcher's rank, and options given there."""

from __future__ import annotations

import argparse
import ast
import copy
import re
from collections.abc import Sequence
from typing import Any

import yaml

from macr_plugin.basicsr_compat.patching import Options, replace_everywhere
from macr_plugin.errors import InputError

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
#: What may stand between the colons of ``--force_yml``, which BasicSR puts into a piece of Python.
KEY = re.compile(r"[\w.+-]+")


def patch_forced_values() -> None:
    """Let ``--force_yml`` take numbers such as ``1e-4`` and ``-1``, which BasicSR keeps as text, and run no code."""
    from basicsr.utils import options

    replace_everywhere(options._postprocess_yml_value, forced_value)


def underscored(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--local-rank`` of today's launchers spelled as BasicSR's parser knows it."""
    return [re.sub(r"^--local-rank(?==|$)", "--local_rank", argument) for argument in arguments]


def forced_entries(arguments: Sequence[str]) -> list[str]:
    """The entries of ``--force_yml`` among command line arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--force_yml", nargs="+", default=[])
    return parser.parse_known_args(list(arguments))[0].force_yml


def check_forced_entries(entries: Sequence[str], written: Options) -> None:
    """Refuse entries of ``--force_yml`` that BasicSR would end on or run as code.

    Args:
        entries: Such as ``train:optim_g:lr=1e-4``.
        written: The option file.

    Raises:
        InputError: Naming the entry.
    """
    for entry in entries:
        if entry.count("=") != 1:
            raise InputError(f"--force_yml {entry}: write key=value with one =, such as train:ema_decay=0.999")
        keys = [key.strip() for key in entry.split("=")[0].strip().split(":")]
        if not all(KEY.fullmatch(key) for key in keys):
            raise InputError(f"--force_yml {entry}: write the keys as words with : between, such as train:ema_decay")
        block: Any = written
        for key in keys[:-1]:
            block = block.get(key) if isinstance(block, dict) else None
        if not isinstance(block, dict):
            raise InputError(f"--force_yml {entry}: the option file has no block {':'.join(keys[:-1])}")
        forced_value(entry.split("=")[1].strip())


def with_forced_entries(written: Options, entries: Sequence[str]) -> Options:
    """The options of a file as ``--force_yml`` changes them.

    Args:
        written: The option file, left unchanged.
        entries: Checked by :func:`check_forced_entries`.
    """
    changed = copy.deepcopy(written)
    for entry in entries:
        keys, value = entry.split("=")
        *blocks, last = [key.strip() for key in keys.split(":")]
        block = changed
        for key in blocks:
            block = block[key]
        block[last] = forced_value(value.strip())
    return changed


def forced_value(text: str) -> Any:
    """The value that a text stands for on the command line: None, a truth value, a number, a list or the text.

    Args:
        text: As BasicSR's ``--force_yml`` takes it: ``~``, ``true``, ``!!float 1e-4``, ``1e-4``, ``[1, 2]``.

    Raises:
        InputError: If a list cannot be read.
    """
    if text == "~" or text.lower() == "none":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    number = text.removeprefix("!!float").strip()
    if NUMBER.fullmatch(number):
        is_whole = number == text and number.lstrip("+-").isdigit()
        return int(number) if is_whole else float(number)
    if not text.startswith("["):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--force_yml {text}: no list: write one such as [1, 2]") from error
