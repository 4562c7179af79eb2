"""Patches of BasicSR 1.4.2 on today's libraries; the only room that knows BasicSR's faults.

One patch belongs to every import of BasicSR: :func:`alias_functional_tensor`. The others change how BasicSR behaves,
and :func:`patch_training_program` applies them only where :func:`is_training_program` says that the main program is
BasicSR's or the plugin's own training or test script. None of them patches torch, and each does nothing where the fault
it is for is not there, so that a newer BasicSR is supported by deleting. ``docs/compatibility.md`` lists them for
users.

The faults, by module:

* ``torchvision_alias``: an import of a torchvision module that is no more.
* ``parsing``: options that are misread, output below site-packages, an option file copied onto itself.
* ``command_line``: numbers that stay text, code that is run, a launcher's rank that is not known.
* ``schedule``: changed options that a resume ignores or ends on.
* ``resume``: states looked for elsewhere, loaded on a GPU alone, and taken without their weights.
* ``saving``: checkpoints written in place, or of weights that are not finite, and a resume without random states.
* ``failed_starts``: folders that are left where a run ends before its first step.
* ``signals``: steps that are lost where a training is told to end.
* ``event_log``: curves that run double after a resume.
* ``pretrained``: weights to start from in other files than its own.
* ``data_files``: data sets that do not say which file they cannot read.
* ``distributed``: processes on a CPU.
* ``degradation``: models that degrade their batches on a GPU whatever they are told.
* ``epochs``: a loop that ends early, a resume that starts an epoch again, a sampler that does not tell its draws.
* ``loading``: workers that repeat their draws, an effective batch nobody sees.
* ``prefetching``: memory of a batch that is given away too early.
* ``log_file``: a full disk that fills the screen with tracebacks of the log.
* ``saved_pictures``: pictures that do not fit on a disk.
* ``lmdb_backend``: an LMDB opened twice.

``program`` tells which program is running, ``patching`` how a part of BasicSR is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from macr_plugin.basicsr_compat.command_line import patch_forced_values
from macr_plugin.basicsr_compat.data_files import patch_data_files
from macr_plugin.basicsr_compat.degradation import patch_degradation_on_cpu
from macr_plugin.basicsr_compat.distributed import patch_distributed_on_cpu
from macr_plugin.basicsr_compat.epochs import patch_epochs
from macr_plugin.basicsr_compat.event_log import patch_event_log
from macr_plugin.basicsr_compat.lmdb_backend import Environments, patch_lmdb_environments
from macr_plugin.basicsr_compat.loading import log_effective_batch, patch_worker_seeds
from macr_plugin.basicsr_compat.log_file import patch_log_file
from macr_plugin.basicsr_compat.parsing import patch_option_copy, patch_options, patch_output_root
from macr_plugin.basicsr_compat.patching import Options
from macr_plugin.basicsr_compat.prefetching import patch_cuda_prefetcher
from macr_plugin.basicsr_compat.pretrained import LoadPretrained, patch_load_network
from macr_plugin.basicsr_compat.program import TRAINING_PROCESS_VARIABLE, is_training_program, is_training_worker
from macr_plugin.basicsr_compat.resume import patch_resume, patch_resumed_weights
from macr_plugin.basicsr_compat.saved_pictures import patch_saved_pictures
from macr_plugin.basicsr_compat.saving import Checkpoints, patch_saving
from macr_plugin.basicsr_compat.schedule import patch_changed_schedules
from macr_plugin.basicsr_compat.signals import patch_signals
from macr_plugin.basicsr_compat.torchvision_alias import alias_functional_tensor

__all__ = ["alias_functional_tensor", "is_training_program", "patch_training_program"]


def patch_training_program(
    read_options: Callable[[Path], Options],
    check_options: Callable[[Options, Path, Sequence[str], bool, bool], None],
    draw: Callable[[int, int, int], int],
    environments: Environments,
    load_pretrained: LoadPretrained,
    checkpoints: Checkpoints,
    reporting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Apply every patch that training and testing need; does nothing when called again.

    Args:
        read_options: Reads an option file; raises :class:`~macr_plugin.errors.InputError` where that is not possible.
        check_options: Called with the options as written and forced, the option file, the forced keys, whether a
            training reads them, and whether a state may be found by ``--auto_resume``, before anything is built; raises
            :class:`~macr_plugin.errors.InputError` on what is wrong in them.
        draw: Makes a sample's number from that number, the epoch and the draw.
        environments: The LMDB environments that this process shares.
        load_pretrained: Loads the weights that a model starts from.
        checkpoints: How files are saved, and what of a process goes into them.
        reporting: Makes what reading and checking run in, which decides how the program ends on bad options.
    """
    from basicsr.utils import options

    if hasattr(options.parse_options, "__wrapped__"):
        return
    if not is_training_worker():
        os.environ[TRAINING_PROCESS_VARIABLE] = str(os.getpid())
    patch_options(read_options, check_options, reporting)
    patch_forced_values()
    patch_output_root()
    patch_option_copy()
    patch_distributed_on_cpu()
    patch_degradation_on_cpu()
    patch_signals()
    patch_resume()
    patch_event_log()
    patch_saving(checkpoints)
    patch_load_network(load_pretrained)
    patch_resumed_weights()
    patch_changed_schedules()
    patch_worker_seeds()
    patch_data_files()
    patch_epochs(draw)
    patch_cuda_prefetcher()
    patch_lmdb_environments(environments)
    log_effective_batch()
    patch_log_file()
    patch_saved_pictures()
