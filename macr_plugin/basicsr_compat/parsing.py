"""Patches of how BasicSR reads options and decides where a run writes."""

from __future__ import annotations

import argparse
import functools
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from macr_plugin.basicsr_compat.command_line import (
    check_forced_entries,
    forced_entries,
    underscored,
    with_forced_entries,
)
from macr_plugin.basicsr_compat.patching import Options, replace_everywhere
from macr_plugin.basicsr_compat.resume import find_resume_state, refuse_resume_on_cpu
from macr_plugin.errors import InputError
from macr_plugin.filesystem.lock import FileLock


def patch_options(
    read_options: Callable[[Path], Options],
    check_options: Callable[[Options, Path, Sequence[str], bool, bool], None],
    reporting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Put right what ``parse_options`` decides wrongly, before the pipeline sees it.

    * ``num_gpu: auto`` means one device unless a launcher started several processes: BasicSR takes every GPU, wraps the
      network into DataParallel and multiplies the batch.
    * ``num_gpu`` above 0 on a machine without a GPU is refused here and not by a driver error.
    * Options that hang or crash are replaced: see :func:`fall_back_prefetch`.
    * ``--local-rank`` is taken as ``--local_rank``, and ``--force_yml`` is checked: see
      :func:`~macr_plugin.basicsr_compat.command_line.check_forced_entries`.
    * ``--auto_resume`` looks where the run writes; BasicSR looks below the current directory.
    * ``datasets.train`` gets the ``manual_seed`` of the run, which BasicSR keeps from its datasets.
    * The output root moves to the current directory where it would be inside site-packages.
    * A test without weights says so.
    * A second program that would write into the same experiment is refused: see :func:`claim_output`.

    Args:
        read_options: Reads the option file as it is written.
        check_options: Called with the options as written and forced, the option file, the forced keys, whether a
            training reads them, and whether a state may be found by ``--auto_resume``.
        reporting: Makes what all of this runs in, which decides how the program ends on an
            :class:`~macr_plugin.errors.InputError`.
    """
    from basicsr.utils import options

    parse_options = options.parse_options
    claimed: dict[Path, FileLock] = {}

    @functools.wraps(parse_options)
    def patched_parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
        with reporting():
            return checked_options(root_path, is_train)

    def checked_options(root_path: str, is_train: bool) -> tuple[Options, argparse.Namespace]:
        sys.argv[1:] = underscored(sys.argv[1:])
        option_path = option_path_from_arguments(sys.argv[1:])
        written = read_options(option_path)
        forced = forced_entries(sys.argv[1:])
        check_forced_entries(forced, written)
        changed = with_forced_entries(written, forced)
        forced_keys = [entry.split("=")[0].strip().replace(":", ".") for entry in forced]
        check_options(changed, option_path, forced_keys, is_train, "--auto_resume" in sys.argv)
        opt, args = parse_options(output_root(root_path), is_train)
        if not opt["dist"] and is_auto_num_gpu(written, args.force_yml):
            opt["num_gpu"] = min(opt["num_gpu"], 1)
        refuse_missing_gpu(opt, args.opt)
        fall_back_prefetch(opt)
        if opt["datasets"].get("train"):
            opt["datasets"]["train"]["manual_seed"] = opt["manual_seed"]
        claim_output(opt, claimed)
        if is_train:
            find_resume_state(opt)
            refuse_resume_on_cpu(opt, args.opt)
        else:
            warn_of_random_weights(opt)
        return opt, args

    replace_everywhere(parse_options, patched_parse_options)


def claim_output(opt: Options, claimed: dict[Path, FileLock]) -> None:
    """Keep other programs from writing into the folder of this run until this process ends.

    The first process holds the lock for all that a launcher started. The lock file lies beside the folder, which
    BasicSR renames.

    Args:
        opt: The options.
        claimed: What this process holds already; extended.

    Raises:
        InputError: If another process writes there; in the other processes of the launcher a SystemExit.
    """
    folder = Path(opt["path"]["experiments_root" if opt["is_train"] else "results_root"]).resolve()
    refusal: list[InputError | None] = [None]
    if opt["rank"] == 0 and folder not in claimed:
        busy = f"another process is writing into {folder}: give this run another name"
        try:
            claimed[folder] = FileLock(folder.with_name(f".{folder.name}.lock"), busy)
        except InputError as error:
            refusal = [error]
    if opt["dist"]:
        import torch

        torch.distributed.broadcast_object_list(refusal)
    if refusal[0] is not None:
        raise refusal[0] if opt["rank"] == 0 else SystemExit(2)


def option_path_from_arguments(arguments: Sequence[str]) -> Path:
    """Value of ``-opt`` among the command line arguments.

    Raises:
        InputError: If it is missing.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-opt")
    path = parser.parse_known_args(list(arguments))[0].opt
    if path is None:
        raise InputError("no option file: give one with -opt options/macr_gopro.yml")
    return Path(path)


def is_auto_num_gpu(written: Options, forced: Sequence[str] | None) -> bool:
    """Whether the option file, or ``--force_yml`` over it, asks for ``num_gpu: auto``."""
    choices = [entry.split("=", 1)[1].strip() for entry in forced or () if entry.split("=", 1)[0].strip() == "num_gpu"]
    return (choices[-1] if choices else written["num_gpu"]) == "auto"


def refuse_missing_gpu(opt: Options, option_path: str) -> None:
    """Refuse a ``num_gpu`` above 0 where torch sees no GPU.

    Raises:
        InputError: Naming the option file.
    """
    import torch

    if opt["num_gpu"] > 0 and not torch.cuda.is_available():
        raise InputError(
            f"num_gpu: {opt['num_gpu']} in {option_path} asks for a GPU and torch sees none: "
            "set num_gpu: auto, which takes the CPU then, or repair the driver"
        )


def fall_back_prefetch(opt: Options) -> None:
    """Turn off a prefetch mode that would hang or crash, with a warning.

    ``cpu`` runs two threads over one dataset, which hangs without workers and mixes up persistent ones; ``cuda`` needs
    a GPU.
    """
    import torch

    train = opt["datasets"].get("train")
    mode = train.get("prefetch_mode") if train else None
    if mode == "cuda" and not torch.cuda.is_available():
        reason = "there is no GPU"
    elif mode == "cpu" and not train.get("num_worker_per_gpu"):
        reason = "it needs num_worker_per_gpu of at least 1"
    elif mode == "cpu" and train.get("persistent_workers"):
        reason = "it cannot share persistent_workers"
    else:
        return
    print(f"datasets.train.prefetch_mode: {mode} is ignored: {reason}.", file=sys.stderr, flush=True)
    train["prefetch_mode"] = None


def warn_of_random_weights(opt: Options) -> None:
    """Say that a test measures a network which nobody has trained."""
    if opt["rank"] == 0 and "network_g" in opt and not opt["path"].get("pretrain_network_g"):
        print(
            "path.pretrain_network_g is empty: unless the network brings its own, this test measures random weights: "
            "give a .pth file.",
            file=sys.stderr,
            flush=True,
        )


def output_root(root_path: str) -> str:
    """Where ``experiments/`` and the like are made: BasicSR's choice, or the current directory.

    Args:
        root_path: BasicSR's choice, the folder above its package: the checkout, or site-packages once it is installed.
    """
    installed = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    in_site_packages = any(Path(root_path).resolve() == Path(folder).resolve() for folder in installed)
    return os.getcwd() if in_site_packages else root_path  # noqa: PTH109


def patch_output_root() -> None:
    """Make ``tb_logger/`` follow ``experiments/`` out of site-packages.

    The training script writes its own idea of the root into the options after parsing them; these two functions are
    the ones it then calls first, the second one when it resumes.
    """
    from basicsr.utils import misc

    def patched(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_output_root(opt: Options, *args: Any) -> Any:
            if "root_path" in opt:
                opt["root_path"] = output_root(opt["root_path"])
            return function(opt, *args)

        return with_output_root

    for function in (misc.make_exp_dirs, misc.check_resume):
        replace_everywhere(function, patched(function))


def patch_option_copy() -> None:
    """Let a run resume from the copy of its option file in its own experiment folder.

    BasicSR copies that file onto itself, which shutil refuses.
    """
    from basicsr.utils import options

    copy_opt_file = options.copy_opt_file

    @functools.wraps(copy_opt_file)
    def patched_copy_opt_file(opt_file: str, experiments_root: str) -> None:
        copy = Path(experiments_root, Path(opt_file).name)
        if not (copy.exists() and copy.samefile(opt_file)):
            copy_opt_file(opt_file, experiments_root)

    replace_everywhere(copy_opt_file, patched_copy_opt_file)
