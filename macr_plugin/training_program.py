"""Makes the running program one that trains or tests as the plugin does: BasicSR's patches with the plugin's parts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from macr_plugin.basicsr_compat import patch_training_program
from macr_plugin.basicsr_compat.failed_starts import end_in_one_line
from macr_plugin.basicsr_compat.program import is_basicsr_program, main_module_name
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.storage.lmdb_environments import lmdb_environments
from macr_plugin.errors import InputError, one_line_errors
from macr_plugin.options.check import check_option_file
from macr_plugin.options.file import read_options

#: Seconds in which the first process, which prints, ends: a launcher then ends the others.
WAIT_FOR_FIRST = 10


@contextmanager
def _errors_of_first_process() -> Iterator[None]:
    """Like :func:`~macr_plugin.errors.one_line_errors`, but of several processes the first alone prints."""
    with one_line_errors(main_module_name() or "macr_plugin"):
        try:
            yield
        except InputError:
            # torchrun and Slurm number the processes.
            if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0:
                raise
            time.sleep(WAIT_FOR_FIRST)
            raise SystemExit(2) from None


def patch_this_program() -> None:
    """Apply every patch that training and testing need; does nothing when called again."""
    # Imports torch, which the check of the options does without.
    from macr_plugin.models import checkpoints
    from macr_plugin.weights.pretrained import load_pretrained

    patch_training_program(
        read_options,
        check_option_file,
        DrawnIndex,
        lmdb_environments(),
        load_pretrained,
        checkpoints,
        _errors_of_first_process,
    )
    if is_basicsr_program():
        end_in_one_line()
