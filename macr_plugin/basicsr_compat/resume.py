"""Patches of how BasicSR finds and loads the state that a training resumes from."""

from __future__ import annotations

import functools
import struct
import sys
import zipfile
from pathlib import Path

from macr_plugin.basicsr_compat.patching import Options, replace_everywhere
from macr_plugin.basicsr_compat.program import is_basicsr_program
from macr_plugin.errors import InputError
from macr_plugin.filesystem.torch_file import read_torch_file

#: How files begin that torch wrote before 1.6; they hold no checksums.
PICKLE_START = b"\x80\x02"


def find_resume_state(opt: Options) -> None:
    """Resolve ``--auto_resume`` to the newest whole training state of the folder that this run writes to.

    A state that is damaged, or whose weights are, is skipped with a line that says so. Where none is whole, the newest
    is taken: what loads it refuses it then, rather than a training that starts over in its place.
    """
    if not opt["auto_resume"]:
        return
    folder = Path(opt["path"]["training_states"])
    states = [path for path in folder.glob("*.state") if path.stem.isdigit()]
    states.sort(key=lambda path: int(path.stem), reverse=True)
    opt["auto_resume"] = False
    for state in states:
        faults = [f"{path} {fault}" for path in (state, *weights_of(opt, state)) if (fault := fault_of(path))]
        if not faults:
            opt["path"]["resume_state"] = str(state)
            return
        if opt["rank"] == 0:
            print(f"--auto_resume skips step {state.stem}: {faults[0]}.", file=sys.stderr, flush=True)
    if states:
        opt["path"]["resume_state"] = str(states[0])
    elif opt["rank"] == 0:
        print(f"--auto_resume: no training state in {folder}, starting anew.", flush=True)


def weights_of(opt: Options, state: Path) -> list[Path]:
    """The files of weights that belong to a training state."""
    ignored, models = opt["path"].get("ignore_resume_networks") or (), Path(opt["path"]["models"])
    labels = [key.removeprefix("network_") for key in opt if key.startswith("network_") and key not in ignored]
    # A model need not save each network that the options describe; every one saves net_g.
    saved = [label for label in labels if label == "g" or any(models.glob(f"net_{label}_*.pth"))]
    return [models / f"net_{label}_{state.stem}.pth" for label in saved]


def fault_of(path: Path) -> str | None:
    """What is wrong with a file that ``torch.save`` wrote: by the checksums in it, without loading it.

    Args:
        path: A checkpoint, which is a zip archive with a CRC-32 of each of its parts.

    Returns:
        ``is missing`` or ``is damaged``; None for a whole file.
    """
    if not path.is_file():
        return "is missing"
    try:
        with path.open("rb") as file:
            if file.read(2) == PICKLE_START:
                return None
        with zipfile.ZipFile(path) as archive:
            is_whole = archive.testzip() is None and any(Path(name).name == "data.pkl" for name in archive.namelist())
    # Damaged headers end in all of these.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, struct.error):
        is_whole = False
    return None if is_whole else "is damaged"


def patch_resumed_weights() -> None:
    """Refuse a resume whose weights are gone or damaged before BasicSR makes, copies or builds anything."""
    from basicsr.utils import misc

    check_resume = misc.check_resume

    @functools.wraps(check_resume)
    def patched_check_resume(opt: Options, resume_iter: int) -> None:
        check_resume(opt, resume_iter)
        for path in weights_of(opt, Path(f"{resume_iter}.state")) if opt["path"]["resume_state"] else ():
            fault = fault_of(path)
            if fault:
                raise InputError(
                    f"{path} {fault}, so {opt['path']['resume_state']} cannot be resumed from: bring the file back, "
                    "or let --auto_resume find the newest whole state"
                )

    replace_everywhere(check_resume, patched_check_resume)


def refuse_resume_on_cpu(opt: Options, option_path: str) -> None:
    """Stop BasicSR's own script before its resume asks for a GPU that is not there.

    What train.py defines itself is beyond a patch while it runs as the main program.

    Raises:
        InputError: Naming the command that resumes on a CPU.
    """
    import torch

    if not opt["path"].get("resume_state") or torch.cuda.is_available():
        return
    if is_basicsr_program() and resume_needs_gpu():
        raise InputError(
            "BasicSR's train.py resumes on a GPU only; on a CPU run: "
            f"python -m macr_plugin.train -opt {option_path} --auto_resume"
        )


def patch_resume() -> None:
    """Let a run resume on a CPU, and give the optimizer its state on the device where it was.

    Only for the plugin's launcher: where BasicSR's script is the main program, it calls a function of its own, which is
    out of reach.
    """
    import basicsr.train

    if not is_basicsr_program() and resume_needs_gpu():
        replace_everywhere(basicsr.train.load_resume_state, load_resume_state)


def resume_needs_gpu() -> bool:
    """Whether BasicSR's ``load_resume_state`` asks for the current CUDA device."""
    import basicsr.train

    return "current_device" in basicsr.train.load_resume_state.__code__.co_names


def load_resume_state(opt: Options) -> Options | None:
    """Load the training state that ``path.resume_state`` names.

    Args:
        opt: The options, with ``--auto_resume`` already resolved; the paths of the networks to resume are set in them.

    Returns:
        Epoch, iteration and the states of optimizers and schedulers, on the CPU; None when nothing is to be resumed.

    Raises:
        InputError: If the file is missing or damaged.
    """
    from basicsr.utils import check_resume

    path = opt["path"].get("resume_state")
    if not path:
        return None
    damaged = f"{path} is damaged (cut short?) and cannot be resumed from: delete it to go on from the state before"
    try:
        # On the CPU whatever the device: an optimizer moves what belongs to the parameters to theirs itself.
        state = read_torch_file(path, damaged)
    except OSError as error:
        raise InputError(f"path.resume_state {path}: {error.strerror}: give an existing .state file") from error
    check_resume(opt, state["iter"])
    return state
