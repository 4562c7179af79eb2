"""Patch of the folders that BasicSR makes before it reads the data, and leaves behind where that fails."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from macr_plugin.basicsr_compat.parsing import option_path_from_arguments
from macr_plugin.basicsr_compat.patching import replace_everywhere
from macr_plugin.basicsr_compat.program import main_module_name
from macr_plugin.errors import InputError, is_disk_error, print_lines


@contextmanager
def no_folders_of_failed_starts() -> Iterator[None]:
    """Remove the folders that a run made if bad input ends it before its first step.

    All of them stay if one holds more than logs and the copied option file; what was there before is not touched.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import misc

    mkdir_and_rename, update_learning_rate = misc.mkdir_and_rename, BaseModel.update_learning_rate
    made: list[list[Path]] = []
    steps: list[int] = []

    @functools.wraps(mkdir_and_rename)
    def recording_mkdir_and_rename(path: str) -> None:
        folder = Path(path)
        made.append([folder, *(parent for parent in folder.parents if not parent.exists())])
        mkdir_and_rename(path)

    @functools.wraps(update_learning_rate)
    def recording_update_learning_rate(self: Any, current_iter: int, *args: Any, **kwargs: Any) -> None:
        steps[:] = [current_iter]
        update_learning_rate(self, current_iter, *args, **kwargs)

    replace_everywhere(mkdir_and_rename, recording_mkdir_and_rename)
    BaseModel.update_learning_rate = recording_update_learning_rate
    try:
        yield
    except (InputError, SystemExit):
        if not steps and all(_holds_nothing(folder) for folder, *_ in made):
            for folder, *parents in made:
                shutil.rmtree(folder)
                for parent in parents:
                    if not any(parent.iterdir()):
                        parent.rmdir()
        raise
    finally:
        replace_everywhere(recording_mkdir_and_rename, mkdir_and_rename)
        BaseModel.update_learning_rate = update_learning_rate


def end_in_one_line() -> None:
    """Let BasicSR's own script end on bad input as the plugin's launchers do, but for its exit status, which is 1."""
    excepthook = sys.excepthook
    folders = no_folders_of_failed_starts()
    folders.__enter__()

    def patched_excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with suppress(InputError):
            folders.__exit__(kind, error, trace)
        if isinstance(error, InputError) or (isinstance(error, OSError) and is_disk_error(error)):
            print_lines(main_module_name() or "basicsr", error)
        else:
            excepthook(kind, error, trace)

    sys.excepthook = patched_excepthook


def _holds_nothing(folder: Path) -> bool:
    """Whether a new folder has no file but logs and the option file."""
    copied = option_path_from_arguments(sys.argv[1:]).name
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return all(
        path.parent == folder
        and (path.suffix == ".log" or path.name == copied or path.name.startswith("events.out.tfevents."))
        for path in files
    )
