"""Which program is running: the patches of behaviour belong to training and test programs alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

BASICSR_MODULES = ("basicsr.train", "basicsr.test")
PLUGIN_MODULES = ("macr_plugin.train", "macr_plugin.test")
TRAINING_PROCESS_VARIABLE = "MACR_PLUGIN_TRAINING_PROCESS"


def main_module_name() -> str:
    """Dotted name of the module that ``python -m`` runs, empty for a script or an interactive session."""
    if sys.argv[:1] == ["-m"]:
        # runpy is still importing the parent package: sys.argv is ['-m', *arguments], the original one has the name.
        return sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec is not None else ""


def is_basicsr_script(path: Path) -> bool:
    """Whether a file is the ``basicsr/train.py`` or ``basicsr/test.py`` of a BasicSR checkout."""
    return (
        path.name in ("train.py", "test.py")
        and path.parent.name == "basicsr"
        and (path.parent / "models" / "base_model.py").is_file()
    )


def is_training_worker() -> bool:
    """Whether this process was spawned by ``multiprocessing`` in a training program, to load data."""
    parent_trains = os.environ.get(TRAINING_PROCESS_VARIABLE) == str(os.getppid())
    return parent_trains and "--multiprocessing-fork" in sys.orig_argv


def is_training_program() -> bool:
    """Whether the main program is BasicSR's or the plugin's training or test script, or this is a worker of it."""
    return is_training_worker() or is_basicsr_program() or main_module_name() in PLUGIN_MODULES


def is_basicsr_program() -> bool:
    """Whether the main program is BasicSR's own training or test script, installed or of a checkout."""
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    return main_module_name() in BASICSR_MODULES or (
        main_file is not None and is_basicsr_script(Path(main_file).resolve())
    )
