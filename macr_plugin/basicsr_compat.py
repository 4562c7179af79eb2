"""Mends of BasicSR 1.4.2 on today's libraries; the only module that knows BasicSR's faults.

One mend belongs to every import of BasicSR: :func:`alias_functional_tensor`. The others change how BasicSR behaves,
and :func:`mend_training_program` applies them only where :func:`is_training_program` says that the main program is
BasicSR's or the plugin's own training or test script. None of them patches torch, and each does nothing where the fault
it is for is not there. ``docs/compatibility.md`` lists them for users.
"""

from __future__ import annotations

import argparse
import functools
import importlib.machinery
import os
import pickle
import random
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from macr_plugin.errors import InputError

Options = dict[str, Any]

BASICSR_MODULES = ("basicsr.train", "basicsr.test")
PLUGIN_MODULES = ("macr_plugin.train", "macr_plugin.test")
TRAINING_PROCESS_VARIABLE = "MACR_PLUGIN_TRAINING_PROCESS"
REQUIRED_KEYS = ("name", "model_type", "num_gpu", "datasets", "path")


# ----------------------------------------------------------------------------------------------------------------------
# On every import of BasicSR
# ----------------------------------------------------------------------------------------------------------------------


class FunctionalTensorFinder:
    """Last resort for ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed.

    BasicSR's ``degradations.py`` takes ``rgb_to_grayscale`` from it; that function lives on in
    ``torchvision.transforms.functional``. Standing last on ``sys.meta_path``, the finder never hides a real module.
    """

    module_name = "torchvision.transforms.functional_tensor"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for that one name."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self.module_name else None  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave the creation to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the alias with the one function that BasicSR needs."""
        from torchvision.transforms.functional import rgb_to_grayscale

        module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]


def alias_functional_tensor() -> None:
    """Let ``torchvision.transforms.functional_tensor`` be imported where torchvision no longer has it."""
    if not any(isinstance(finder, FunctionalTensorFinder) for finder in sys.meta_path):
        sys.meta_path.append(FunctionalTensorFinder())


# ----------------------------------------------------------------------------------------------------------------------
# Which program is running
# ----------------------------------------------------------------------------------------------------------------------


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


# ----------------------------------------------------------------------------------------------------------------------
# Mends of the training and test programs
# ----------------------------------------------------------------------------------------------------------------------


def mend_training_program(check_options: Callable[[Options], None]) -> None:
    """Apply every mend that training and testing need; does nothing when called again.

    Args:
        check_options: Called with the parsed options, before anything is built; raises
            :class:`~macr_plugin.errors.InputError` on a key it does not know.
    """
    from basicsr.utils import options

    if hasattr(options.parse_options, "__wrapped__"):
        return
    if not is_training_worker():
        os.environ[TRAINING_PROCESS_VARIABLE] = str(os.getpid())
    mend_options(check_options)
    mend_output_root()
    mend_option_copy()
    mend_distributed_on_cpu()
    mend_resume()
    mend_worker_seeds()
    mend_sampler()
    mend_cuda_prefetcher()
    mend_lmdb_environments()
    log_effective_batch()


def mend_options(check_options: Callable[[Options], None]) -> None:
    """Put right what ``parse_options`` decides wrongly, before the pipeline sees it.

    * ``num_gpu: auto`` means one device unless a launcher started several processes: BasicSR takes every GPU, wraps the
      network into DataParallel and multiplies the batch.
    * ``num_gpu`` above 0 on a machine without a GPU is refused here and not by a driver error.
    * Options that hang or crash are replaced: see :func:`fall_back_prefetch`.
    * ``--auto_resume`` looks where the run writes; BasicSR looks below the current directory.
    * ``datasets.train`` gets the ``manual_seed`` of the run, which BasicSR keeps from its datasets.
    * The output root moves to the current directory where it would be inside site-packages.
    """
    from basicsr.utils import options

    parse_options = options.parse_options

    @functools.wraps(parse_options)
    def mended_parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
        written = read_options(option_path_from_arguments(sys.argv[1:]))
        opt, args = parse_options(output_root(root_path), is_train)
        if not opt["dist"] and is_auto_num_gpu(written, args.force_yml):
            opt["num_gpu"] = min(opt["num_gpu"], 1)
        refuse_missing_gpu(opt, args.opt)
        fall_back_prefetch(opt)
        check_options(opt)
        if opt["datasets"].get("train"):
            opt["datasets"]["train"]["manual_seed"] = opt["manual_seed"]
        if is_train:
            find_resume_state(opt)
            refuse_resume_on_cpu(opt, args.opt)
        return opt, args

    replace_everywhere(parse_options, mended_parse_options)


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
            "set num_gpu: auto, which takes the CPU then, or mend the driver"
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


def find_resume_state(opt: Options) -> None:
    """Resolve ``--auto_resume`` to the newest training state of the folder that this run writes to."""
    if not opt["auto_resume"]:
        return
    folder = Path(opt["path"]["training_states"])
    states = [path for path in folder.glob("*.state") if path.stem.isdigit()]
    opt["auto_resume"] = False
    if states:
        opt["path"]["resume_state"] = str(max(states, key=lambda path: int(path.stem)))
    elif opt["rank"] == 0:
        print(f"--auto_resume: no training state in {folder}, starting anew.", flush=True)


def refuse_resume_on_cpu(opt: Options, option_path: str) -> None:
    """Stop BasicSR's own script before its resume asks for a GPU that is not there.

    What train.py defines itself is beyond a mend while it runs as the main program.

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


def output_root(root_path: str) -> str:
    """Where ``experiments/`` and the like are made: BasicSR's choice, or the current directory.

    Args:
        root_path: BasicSR's choice, the folder above its package: the checkout, or site-packages once it is installed.
    """
    installed = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    in_site_packages = any(Path(root_path).resolve() == Path(folder).resolve() for folder in installed)
    return os.getcwd() if in_site_packages else root_path  # noqa: PTH109


def mend_output_root() -> None:
    """Make ``tb_logger/`` follow ``experiments/`` out of site-packages.

    The training script writes its own idea of the root into the options after parsing them; these two functions are
    the ones it then calls first, the second one when it resumes.
    """
    from basicsr.utils import misc

    def mended(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_output_root(opt: Options, *args: Any) -> Any:
            if "root_path" in opt:
                opt["root_path"] = output_root(opt["root_path"])
            return function(opt, *args)

        return with_output_root

    for function in (misc.make_exp_dirs, misc.check_resume):
        replace_everywhere(function, mended(function))


def mend_option_copy() -> None:
    """Let a run resume from the copy of its option file in its own experiment folder.

    BasicSR copies that file onto itself, which shutil refuses.
    """
    from basicsr.utils import options

    copy_opt_file = options.copy_opt_file

    @functools.wraps(copy_opt_file)
    def mended_copy_opt_file(opt_file: str, experiments_root: str) -> None:
        copy = Path(experiments_root, Path(opt_file).name)
        if not (copy.exists() and copy.samefile(opt_file)):
            copy_opt_file(opt_file, experiments_root)

    replace_everywhere(copy_opt_file, mended_copy_opt_file)


def mend_distributed_on_cpu() -> None:
    """Let torchrun start processes on a machine without a GPU, connected by gloo.

    BasicSR divides the ranks over ``torch.cuda.device_count()`` devices and names a CUDA device to
    DistributedDataParallel.
    """
    import torch
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import dist_util

    init_dist, model_to_device = dist_util.init_dist, BaseModel.model_to_device

    @functools.wraps(init_dist)
    def mended_init_dist(launcher: str, backend: str = "nccl", **kwargs: Any) -> None:
        try:
            init_dist(launcher, backend, **kwargs)
        except ZeroDivisionError:
            if launcher != "pytorch":
                raise InputError(f"--launcher {launcher} needs GPUs: start CPU processes with torchrun") from None
            torch.distributed.init_process_group(backend="gloo")

    @functools.wraps(model_to_device)
    def mended_model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt["dist"] or self.device.type != "cpu":
            return model_to_device(self, net)
        find_unused_parameters = self.opt.get("find_unused_parameters", False)
        return torch.nn.parallel.DistributedDataParallel(
            net.to(self.device), find_unused_parameters=find_unused_parameters
        )

    replace_everywhere(init_dist, mended_init_dist)
    BaseModel.model_to_device = mended_model_to_device


def mend_resume() -> None:
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
    import torch
    from basicsr.utils import check_resume

    path = opt["path"].get("resume_state")
    if not path:
        return None
    try:
        # On the CPU whatever the device: an optimizer moves what belongs to the parameters to theirs itself.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"path.resume_state {path}: {error.strerror}: give an existing .state file") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} is damaged (cut short?) and cannot be resumed from: delete it to go on from the state before"
        ) from error
    check_resume(opt, state["iter"])
    return state


def seed_worker(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Seed a data loading worker from torch's seed of it, which is new in every epoch and in every process.

    Args:
        worker_id: As torch's ``worker_init_fn`` gets it; the remaining arguments are BasicSR's.
        num_workers: Not used.
        rank: Not used.
        seed: Not used.
    """
    import numpy as np
    import torch

    worker_seed = torch.initial_seed() % 2**32
    random.seed(worker_seed)
    np.random.seed(worker_seed)


def mend_worker_seeds() -> None:
    """Make workers draw other crops and flips in every epoch; BasicSR seeds them with a constant."""
    import basicsr.data

    if repeats_seeds(basicsr.data.worker_init_fn):
        replace_everywhere(basicsr.data.worker_init_fn, seed_worker)


def repeats_seeds(worker_init_fn: Callable[..., None]) -> bool:
    """Whether a BasicSR ``worker_init_fn`` ignores torch's seed; leaves every generator as it was."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    draws = []
    with torch.random.fork_rng(devices=[]):
        for torch_seed in (0, 1):
            torch.manual_seed(torch_seed)
            worker_init_fn(worker_id=0, num_workers=1, rank=0, seed=0)
            draws.append(random.random())
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    return draws[0] == draws[1]


class DrawnIndex(int):
    """Number of a sample that also tells which draw of the training it is, for keyed random numbers.

    Any dataset may use it as the plain number. It reaches data loading workers unharmed.

    Args:
        index: Number of the sample.
        epoch: Epoch of the draw.
        draw: Number of the draw in its epoch, different for every sample, repetition and rank.
    """

    epoch: int
    draw: int

    def __new__(cls, index: int, epoch: int, draw: int) -> DrawnIndex:
        """Attach the draw to the number."""
        drawn = super().__new__(cls, index)
        drawn.epoch, drawn.draw = epoch, draw
        return drawn

    def __reduce__(self) -> tuple[type[DrawnIndex], tuple[int, int, int]]:
        return DrawnIndex, (int(self), self.epoch, self.draw)


def mend_sampler() -> None:
    """Let the training sampler hand over epoch and draw, in BasicSR's order.

    A dataset otherwise knows neither, so that what it draws depends on the number of workers and on a resume.
    """
    import torch
    from basicsr.data.data_sampler import EnlargedSampler

    class DrawSampler(EnlargedSampler):
        """BasicSR's sampler with a :class:`DrawnIndex` for each number."""

        def __iter__(self) -> Iterator[DrawnIndex]:
            generator = torch.Generator()
            generator.manual_seed(self.epoch)
            draws = torch.randperm(self.total_size, generator=generator)[self.rank :: self.num_replicas].tolist()
            size, epoch = len(self.dataset), self.epoch
            return (DrawnIndex(draw % size, epoch, draw) for draw in draws)

    replace_everywhere(EnlargedSampler, DrawSampler)


def mend_cuda_prefetcher() -> None:
    """Keep a prefetched batch's memory until the step that uses it has ended.

    BasicSR copies the next batch on a stream of its own, and the allocator gives the memory of the batch before to that
    copy as soon as Python lets go of it, although the GPU may still be computing with it.
    """
    import torch
    from basicsr.data.prefetch_dataloader import CUDAPrefetcher

    if "record_stream" in CUDAPrefetcher.next.__code__.co_names:
        return

    class RecordingCUDAPrefetcher(CUDAPrefetcher):
        """BasicSR's prefetcher, which tells the allocator who uses a batch."""

        def next(self) -> dict[str, Any] | None:
            """The batch that was copied meanwhile, None at the end of an epoch."""
            step_stream = torch.cuda.current_stream()
            step_stream.wait_stream(self.stream)
            batch = self.batch
            for value in (batch or {}).values():
                if isinstance(value, torch.Tensor) and value.is_cuda:
                    value.record_stream(step_stream)
            self.preload()
            return batch

    replace_everywhere(CUDAPrefetcher, RecordingCUDAPrefetcher)


class LmdbEnvironments:
    """The open LMDB environments of this process, one for each path.

    They are closed before a fork, and each side opens its own at the next read: an environment must not be used across
    a fork, and lmdb 2 and later refuse to open a second one of the same path, in the child as well.
    """

    def __init__(self) -> None:
        self._environments: dict[str, Any] = {}
        self._lock = threading.Lock()
        os.register_at_fork(
            before=self._close_and_lock, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )

    def get(self, path: str, key: str, **options: Any) -> bytes | None:
        """Value of a key, None if there is none.

        Args:
            path: Folder of the environment.
            key: ASCII key.
            options: Passed to ``lmdb.open`` where the environment is not open yet.
        """
        with self.values(path, [key], **options) as (value,):
            return None if value is None else bytes(value)

    @contextmanager
    def values(self, path: str, keys: Sequence[str], **options: Any) -> Iterator[list[memoryview | None]]:
        """Values of several keys without a copy, in one transaction.

        Other threads wait for the end of the body: what it does should be short, and must not read an environment.

        Args:
            path: Folder of the environment.
            keys: ASCII keys.
            options: Passed to ``lmdb.open`` where the environment is not open yet.

        Yields:
            The values, None for a key that is not there. Valid in the body only.
        """
        with self._lock, self._open(path, options).begin(buffers=True) as transaction:
            yield [transaction.get(key.encode("ascii")) for key in keys]

    def count(self, path: str, **options: Any) -> int:
        """Number of keys, which LMDB knows without reading them.

        Args:
            path: Folder of the environment.
            options: Passed to ``lmdb.open`` where the environment is not open yet.
        """
        with self._lock:
            return self._open(path, options).stat()["entries"]

    def _open(self, path: str, options: Mapping[str, Any]) -> Any:
        import lmdb

        real_path = os.path.realpath(path)
        if real_path not in self._environments:
            self._environments[real_path] = lmdb.open(real_path, **options)
        return self._environments[real_path]

    def _close_and_lock(self) -> None:
        self._lock.acquire()
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()


@functools.cache
def lmdb_environments() -> LmdbEnvironments:
    """The environments that all readers of this process share."""
    return LmdbEnvironments()


def refuses_second_environment() -> bool:
    """Whether lmdb refuses to open an environment that the process has open already."""
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        first = lmdb.open(folder)
        try:
            lmdb.open(folder).close()
        except lmdb.Error:
            return True
        finally:
            first.close()
    return False


def mend_lmdb_environments() -> None:
    """Share one LMDB environment a process among BasicSR's file clients.

    Without it, training and validating on the same LMDB ends with lmdb's "already open in this process".
    """
    from basicsr.utils.file_client import FileClient, LmdbBackend

    if not refuses_second_environment():
        return

    class SharedLmdbBackend(LmdbBackend):
        """BasicSR's LMDB backend over the environments of this process."""

        def __init__(
            self,
            db_paths: str | Sequence[str],
            client_keys: str | Sequence[str] = "default",
            readonly: bool = True,
            lock: bool = False,
            readahead: bool = False,
            **kwargs: Any,
        ) -> None:
            self.db_paths = [db_paths] if isinstance(db_paths, str) else [str(path) for path in db_paths]
            names = [client_keys] if isinstance(client_keys, str) else client_keys
            self._paths = dict(zip(names, self.db_paths, strict=True))
            self._options = {"readonly": readonly, "lock": lock, "readahead": readahead, **kwargs}

        def get(self, filepath: str, client_key: str) -> bytes | None:
            """Value of the key ``filepath`` in the LMDB that ``client_key`` names."""
            return lmdb_environments().get(self._paths[client_key], str(filepath), **self._options)

    FileClient._backends["lmdb"] = SharedLmdbBackend


def log_effective_batch() -> None:
    """Log how many pictures one step really uses: per process times processes."""
    import basicsr.data
    from basicsr.utils import get_root_logger
    from basicsr.utils.dist_util import get_dist_info

    build_dataloader = basicsr.data.build_dataloader

    @functools.wraps(build_dataloader)
    def logging_build_dataloader(dataset: Any, dataset_opt: Options, *args: Any, **kwargs: Any) -> Any:
        loader = build_dataloader(dataset, dataset_opt, *args, **kwargs)
        if dataset_opt["phase"] == "train":
            _, processes = get_dist_info()
            get_root_logger().info(
                f"Effective batch: {loader.batch_size} per process x {processes} process(es) "
                f"= {loader.batch_size * processes}"
            )
        return loader

    replace_everywhere(build_dataloader, logging_build_dataloader)


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Put a replacement wherever a BasicSR module refers to a function, also by ``from ... import``."""
    for name, module in list(sys.modules.items()):
        if name == "basicsr" or name.startswith("basicsr."):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, replacement)
