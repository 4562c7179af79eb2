"""Trains the entries of a benchmark from scratch through BasicSR, each with every seed, and goes on where it ended."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from macr_plugin.benchmark.options import DATASET, Entry, TrainingBase, file_name, merge_options
from macr_plugin.errors import FREE_DISK_SPACE, InputError
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.filesystem.lock import FileLock
from macr_plugin.options.check import check_options

#: Share of a time budget that is spent on finding out how long a step takes.
TIMING_SHARE = 0.1
#: Steps of the run that finds out, at most: it is ended long before.
TIMING_ITERATIONS = 10**6
TIMING_PRINT_FREQUENCY = 5
CHECKPOINTS = 10
LOG_LINES = 100
POLL_SECONDS = 0.5

LOG_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) INFO: .*\[epoch:\s*\d+, iter:\s*([\d,]+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How long every entry is trained, and how often.

    Attributes:
        base: Options that all trainings share.
        iterations: Steps; none if a time budget decides.
        budget_seconds: Seconds of training, start-up excluded; none if the number of steps decides.
        seeds: One run for each.
        device: ``cuda`` or ``cpu``.
        imports: Python files that register networks, imported in the training process too.
    """

    base: TrainingBase
    iterations: int | None
    budget_seconds: float | None
    seeds: tuple[int, ...]
    device: str
    imports: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class TrainedCell:
    """One finished run.

    Attributes:
        weights: Its checkpoint.
        iterations: Steps taken, as its log shows.
        seconds: From the first logged step to the last, start-up and interruptions excluded.
    """

    weights: Path
    iterations: int
    seconds: float


def training_options(entry: Entry, plan: TrainingPlan, seed: int, iterations: int) -> dict[str, Any]:
    """Make the option file of one run.

    Args:
        entry: What is trained; its ``datasets`` and ``train`` change the shared options.
        plan: The shared options.
        seed: Seed of weights, crops and order.
        iterations: Steps.

    Returns:
        Options for ``python -m macr_plugin.train``, all but the ``name``.
    """
    train = merge_options(plan.base.train, entry.train)
    train["total_iter"] = iterations
    scheduler = train.get("scheduler") or {}
    if scheduler.get("type") == "CosineAnnealingRestartLR" and not scheduler.get("periods"):
        scheduler["periods"] = [iterations]
    dataset = {"name": "train", "type": DATASET, **training_data(entry, plan)}
    for key in ("dataroot", "dataroot_lq", "dataroot_gt"):
        # The run has a folder of its own.
        if dataset.get(key) is not None:
            dataset[key] = str(Path(dataset[key]).expanduser().resolve())
    return {
        "model_type": entry.model_type,
        "scale": 1,
        "num_gpu": 0 if plan.device == "cpu" else "auto",
        "manual_seed": seed,
        "datasets": {"train": dataset},
        "network_g": entry.network,
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": train,
        "logger": {
            "print_freq": max(1, iterations // LOG_LINES),
            "save_checkpoint_freq": max(1, iterations // CHECKPOINTS),
            "use_tb_logger": False,
        },
    }


def training_data(entry: Entry, plan: TrainingPlan) -> dict[str, Any]:
    """Options of the data that an entry is trained on: the shared ones with the entry's changes."""
    return merge_options(plan.base.datasets, entry.datasets)["train"]


def check_training(entry: Entry, plan: TrainingPlan) -> None:
    """Check the options of an entry's training as the training itself would.

    Raises:
        InputError: Naming the entry and the key.
    """
    options = training_options(entry, plan, plan.seeds[0], plan.iterations or 1)
    try:
        check_options(copy.deepcopy(options))
    except InputError as error:
        raise InputError(f"training of {entry.label}: {error}") from error


def train_entry(entry: Entry, plan: TrainingPlan, folder: Path) -> Iterator[TrainedCell]:
    """Train an entry with every seed; runs that are finished already are not repeated.

    Args:
        entry: What is trained.
        plan: How long and how often.
        folder: Where the runs are kept.

    Yields:
        The finished runs, in the order of the seeds.

    Raises:
        InputError: If a run fails, naming its log.
    """
    iterations = plan.iterations or _iterations_in_budget(entry, plan, folder)
    for seed in plan.seeds:
        yield _train_cell(entry, plan, seed, iterations, folder)


def _train_cell(entry: Entry, plan: TrainingPlan, seed: int, iterations: int, folder: Path) -> TrainedCell:
    run = _Run(folder, f"{file_name(entry.label)}_seed{seed}", training_options(entry, plan, seed, iterations), plan)
    weights = run.experiment / "models" / "net_g_latest.pth"
    if not weights.is_file():
        with run.started() as process, tqdm(total=iterations, desc=run.name, unit="step", leave=False) as bar:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                bar.update(max(run.steps() - bar.n, 0))
        if process.returncode or not weights.is_file():
            raise InputError(f"training of {entry.label} with seed {seed} failed: {run.last_words()}: see {run.output}")
        _remove_intermediate(run.experiment, weights)
    return TrainedCell(weights, run.steps(), run.seconds())


def _iterations_in_budget(entry: Entry, plan: TrainingPlan, folder: Path) -> int:
    """Steps that fit into the time budget, from the time that a short run of the same training takes for each.

    So the learning rate follows its whole schedule, which a run that is cut off by the clock would not.
    """
    budget = plan.budget_seconds or 0.0
    options = training_options(entry, plan, plan.seeds[0], TIMING_ITERATIONS)
    options["logger"]["print_freq"] = TIMING_PRINT_FREQUENCY
    name = f"{file_name(entry.label)}_timing"
    run = _Run(folder, name, options, plan)
    measured = folder / f"{run.name}_{budget:g}s.json"
    if not measured.is_file():
        with run.started() as process, tqdm(desc=run.name, bar_format="{desc}: {elapsed}", leave=False) as bar:
            while process.poll() is None and not _is_timed(run.logged(), TIMING_SHARE * budget):
                time.sleep(POLL_SECONDS)
                bar.refresh()
        if process.returncode not in (0, -signal.SIGTERM):
            raise InputError(f"training of {entry.label} failed: {run.last_words()}: see {run.output}")
        (first_time, first_step), *_, (last_time, last_step) = run.logged()
        _write_text(measured, json.dumps({"seconds_per_step": (last_time - first_time) / (last_step - first_step)}))
        shutil.rmtree(run.experiment)
    return max(1, int(budget / json.loads(measured.read_text())["seconds_per_step"]))


def _is_timed(logged: Sequence[tuple[float, int]], seconds: float) -> bool:
    return len(logged) > 2 and logged[-1][0] - logged[0][0] >= seconds


class _Run:
    """A training process with a folder of its own, named by its options: other options are another run."""

    def __init__(self, folder: Path, name: str, options: dict[str, Any], plan: TrainingPlan) -> None:
        text = json.dumps([options, [path.read_text() for path in plan.imports]], sort_keys=True)
        self.name = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.folder = folder.resolve()
        self.options = {"name": self.name, **options}
        self.imports = [path.resolve() for path in plan.imports]
        self.experiment = self.folder / "experiments" / self.name
        self.output = self.folder / f"{self.name}.txt"

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the training, or go on with it; it is ended with the body."""
        self.folder.mkdir(parents=True, exist_ok=True)
        option_file = self.folder / f"{self.name}.yml"
        _write_text(option_file, yaml.safe_dump(self.options, sort_keys=False))
        command = [sys.executable, "-m", "macr_plugin.train", "-opt", str(option_file), "--auto_resume"]
        for path in self.imports:
            command += ["--import", str(path)]
        lock = FileLock(self.folder / f"{self.name}.lock", f"another process is training {self.experiment}")
        with lock, self.output.open("ab") as output:
            # The training holds the lock too: it may outlive this process, which a kill ends.
            held = [lock.descriptor] if lock.descriptor is not None else []
            process = subprocess.Popen(  # noqa: S603  this package's own command, without a shell
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=held
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()

    def logged(self) -> list[tuple[float, int]]:
        """Time in seconds and step of every line about a step, in order; of several starts, all."""
        return [line for lines in self._logged_by_start() for line in lines]

    def steps(self) -> int:
        """Last step that the log shows."""
        return max((step for _, step in self.logged()), default=0)

    def seconds(self) -> float:
        """Seconds between the first and the last such line of each start, added up."""
        return sum(lines[-1][0] - lines[0][0] for lines in self._logged_by_start() if lines)

    def _logged_by_start(self) -> list[list[tuple[float, int]]]:
        return [
            [
                (datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").timestamp(), int(step.replace(",", "")))
                for when, step in LOG_LINE.findall(log.read_text(encoding="utf-8", errors="replace"))
            ]
            for log in sorted(self.experiment.glob("train_*.log"))
        ]

    def last_words(self) -> str:
        """Last line that the process wrote."""
        lines = self.output.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"


def _remove_intermediate(experiment: Path, weights: Path) -> None:
    """Keep the final weights only: a resume is of no use any more, and many checkpoints fill a disk."""
    shutil.rmtree(experiment / "training_states", ignore_errors=True)
    for checkpoint in weights.parent.glob("*.pth"):
        if checkpoint != weights:
            checkpoint.unlink()


def parse_seconds(text: str) -> float:
    """Read a time budget.

    Args:
        text: Such as ``600s``, ``10m``, ``2h`` or ``600``.

    Raises:
        InputError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) == 0:
        raise InputError(f"--train-budget {text} is no time: write seconds, minutes or hours, such as 600s, 10m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path, FREE_DISK_SPACE) as file:
        file.write(text.encode())
