"""Patch of BasicSR's data sets: a file that is missing or damaged ends in a traceback that may not even name it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from macr_plugin.basicsr_compat.patching import Options
from macr_plugin.errors import InputError, first_line

REMEDY = "correct the path, or bring the file back"


def patch_data_files() -> None:
    """Let each of BasicSR's own data sets name the option, file or sample that it cannot read."""
    from basicsr.utils.registry import DATASET_REGISTRY

    patches = {"__init__": _naming_init, "__getitem__": _naming_getitem}
    for _, kind in DATASET_REGISTRY:
        if not kind.__module__.startswith("basicsr."):
            continue
        for name in patches.keys() & vars(kind).keys():
            original = vars(kind)[name]
            if not hasattr(original, "__wrapped__"):
                setattr(kind, name, patches[name](original))


def _naming_init(init: Any) -> Any:
    @functools.wraps(init)
    def naming_init(self: Any, opt: Options) -> None:
        with _named(lambda: set_name(opt)):
            init(self, opt)

    return naming_init


def _naming_getitem(getitem: Any) -> Any:
    @functools.wraps(getitem)
    def naming_getitem(self: Any, index: int) -> Any:
        if not 0 <= index < len(self):
            # So that a loop over a data set ends.
            return getitem(self, index)
        with _named(lambda: f"{set_name(self.opt)}: {sample_name(self, index)}"):
            return getitem(self, index)

    return naming_getitem


def set_name(opt: Options) -> str:
    """The phase and the name of a data set."""
    return f"datasets.{opt.get('phase', '')} {opt.get('name', '')}".strip()


def sample_name(dataset: Any, index: int) -> str:
    """Which files or keys a data set of BasicSR reads for a sample, as far as it tells.

    Args:
        dataset: One of BasicSR's own.
        index: Number of the sample.
    """
    for attribute in ("paths", "keys", "folders"):
        listed = getattr(dataset, attribute, None)
        if listed:
            paths = listed[index].values() if isinstance(listed[index], dict) else [listed[index]]
            return " and ".join(map(str, paths))
    listed = getattr(dataset, "data_info", {}).get("lq_path")
    return str(listed[index]) if listed else f"sample {index}"


@contextmanager
def _named(what: Callable[[], str]) -> Iterator[None]:
    """Turn an error into one line that begins with what is read; the plugin's own stay."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{what()}: {error.filename}: {error.strerror}: {REMEDY}") from error
    except KeyError as error:
        raise InputError(f"{what()}: the option or entry {error} is missing") from error
    # No picture is None in BasicSR, which each place uses in another way.
    except Exception as error:
        reason = first_line(error) or type(error).__name__
        raise InputError(f"{what()}: missing or damaged, or not as the options say: {reason}") from error
