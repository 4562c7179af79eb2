"""Runs a benchmark from its option file to its report; a run that was killed goes on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from macr_plugin.benchmark.environment import describe_environment
from macr_plugin.benchmark.measuring.cost import count_macs, count_parameters, measure_latencies, one_sentence
from macr_plugin.benchmark.measuring.intervals import paired_difference, verdict
from macr_plugin.benchmark.measuring.networks import build_restorer, describe_changed_options, describe_inference
from macr_plugin.benchmark.measuring.quality import (
    measure_frames,
    protocol_id,
    restore_with,
    summarise,
    write_extra_pictures,
    write_restored,
)
from macr_plugin.benchmark.options import INCLUDED, Benchmark, Entry, file_name, read_benchmark
from macr_plugin.benchmark.results import (
    ComparedFrame,
    EntryResult,
    Latency,
    Quality,
    Results,
    Training,
    is_steady,
    read_json,
    to_json,
)
from macr_plugin.benchmark.training import TrainedCell, TrainingPlan, check_training, train_entry, training_data
from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.pairs import evenly_spaced
from macr_plugin.errors import FREE_DISK_SPACE, DiskError, InputError, is_disk_error
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.inference.memory import keep_freed_memory
from macr_plugin.inference.restorer import find_device
from macr_plugin.user_modules import import_files
from macr_plugin.weights.shipped import find_shipped


def benchmark(
    option_file: Path,
    out: Path | None = None,
    imports: Sequence[Path] = (),
    train_iters: int | None = None,
    train_budget: float | None = None,
    seeds: Sequence[int] = (0,),
) -> Path:
    """Measure what an option file names and write the report.

    Every finished entry is kept in ``out/entries`` and every finished training in ``out/training``; called again with
    the same options and weights, only what is missing is done. An entry that fails is reported with its error, and
    tried again next time. This process keeps the main memory that it frees, as ``macr deblur`` does.

    Args:
        option_file: The YAML file.
        out: Folder of the report. Default: ``results/`` and the name of the benchmark.
        imports: Python files that register networks of the user.
        train_iters: Train every network from scratch first, for that many steps.
        train_budget: Train every network from scratch first, for that many seconds.
        seeds: One training for each.

    Returns:
        The folder.

    Raises:
        InputError: If the options are wrong, the data cannot be read, or there is nothing to train with.
    """
    import_files(imports)
    options = read_benchmark(option_file)
    plan = _training_plan(options, imports, train_iters, train_budget, tuple(seeds))
    run = BenchmarkRun(options, out or Path("results", options.name), plan, imports)
    results = run.measure()

    from macr_plugin.benchmark.report.writer import write_report

    write_report(results, run.out)
    return run.out


def _training_plan(
    options: Benchmark,
    imports: Sequence[Path],
    iterations: int | None,
    budget: float | None,
    seeds: tuple[int, ...],
) -> TrainingPlan | None:
    if iterations is None and budget is None:
        return None
    if iterations is not None and iterations < 1:
        raise InputError(f"--train-iters {iterations} trains nothing: use 1 or more")
    if options.training is None:
        raise InputError("--train-iters and --train-budget need the block training: see options/benchmark_demo.yml")
    device = find_device(options.cost.devices[0]).type
    plan = TrainingPlan(options.training, iterations, budget, seeds, device, tuple(imports))
    for entry in options.entries:
        if entry.network is not None:
            check_training(entry, plan)
    return plan


class BenchmarkRun:
    """One benchmark with its folder.

    Args:
        options: What is measured.
        out: Folder of everything that is written.
        plan: How the networks are trained first, if they are.
        imports: Python files that register networks of the user.

    Raises:
        InputError: If the data cannot be read or a device is not there.
    """

    def __init__(
        self, options: Benchmark, out: Path, plan: TrainingPlan | None = None, imports: Sequence[Path] = ()
    ) -> None:
        self.options = options
        self.out = out
        self.plan = plan
        self.imports = imports
        self.devices = [find_device(name) for name in options.cost.devices]
        memory_kept = keep_freed_memory()
        self.environment = describe_environment(self.devices, options.cost.channels_last, memory_kept)
        # Bytes, a quarter of the memory to move; they become float on the device.
        self.dataset = (
            None if options.dataset is None else DeblurPairDataset({**options.dataset, "phase": "test", "uint8": True})
        )

    @property
    def device(self) -> torch.device:
        """Where quality is measured."""
        return self.devices[0]

    def measure(self) -> Results:
        """Measure every entry that is not measured yet, and compare them."""
        entries = []
        for entry in tqdm(self.options.entries, desc="entries", unit="entry"):
            entries.append(self._kept(self.cell(entry), EntryResult, functools.partial(self._measure_entry, entry)))
        compare_with_first(entries)
        return Results(
            title=self.options.title,
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
            environment=self.environment,
            dataset=str((self.options.dataset or {}).get("name", "none")),
            blurred_quality=self._blurred_quality(entries),
            entries=entries,
            pictures=self._pictures(entries),
        )

    def cell(self, entry: Entry) -> str:
        """Name of an entry's files: its label, and a digest of everything that its results depend on."""
        network = entry.network or {}
        plan = dataclasses.asdict(self.plan) if self.plan and network else None
        files = [_stamp(path) for path in (entry.weights, network.get("checkpoint"), *self.imports) if path]
        return f"{file_name(entry.label)}-{self._digest(dataclasses.asdict(entry), plan, files)}"

    def _digest(self, *content: Any) -> str:
        shared = dataclasses.asdict(dataclasses.replace(self.options, entries=(), title=""))
        keys = self.dataset.keys if self.dataset else None
        text = json.dumps([shared, keys, self.environment, *content], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _kept(self, name: str, kind: type, make: Callable[[], Any]) -> Any:
        """Read a record that an earlier run left, or make it and leave it; one with an error is made again."""
        path = self.out / "entries" / f"{name}.json"
        if path.is_file():
            record = read_json(kind, path)
            if getattr(record, "error", None) is None:
                return record
        record = make()
        with atomic_write(path, FREE_DISK_SPACE) as file:
            file.write(to_json(record).encode())
        return record

    # ------------------------------------------------------------------------------------------------------------------
    # One entry
    # ------------------------------------------------------------------------------------------------------------------

    def _measure_entry(self, entry: Entry) -> EntryResult:
        result = EntryResult(
            label=entry.label,
            precision=entry.precision,
            inference=describe_inference(entry),
            weights=entry.weights,
            published=entry.published,
        )
        if entry.network is None:
            return result
        result.network = entry.network["type"]
        result.options = {name: value for name, value in entry.network.items() if name != "type"}
        try:
            self._measure_network(entry, result)
        # Every other entry would meet it too.
        except DiskError:
            raise
        except InputError as error:
            result.error = str(error)
        # Whatever a network of somebody else does, the other entries are measured.
        except Exception as error:
            if is_disk_error(error):
                raise
            result.error = one_sentence(error)
        return result

    def _measure_network(self, entry: Entry, result: EntryResult) -> None:
        restorer = build_restorer(entry)
        result.parameters = count_parameters(restorer)
        result.complexity = [count_macs(restorer, size) for size in self.options.cost.sizes]
        for latency in measure_latencies(lambda: build_restorer(entry), self.options.cost, self.devices):
            result.latencies.append(latency)
            warn_of_spread(entry.label, latency)
        if self.plan is not None:
            self._train_and_measure(entry, result, self.plan)
        elif entry.weights is not None:
            weights = None if entry.weights == INCLUDED else Path(entry.weights).expanduser()
            result.changed_options = describe_changed_options(entry, weights) if weights else None
            result.quality = self._quality(entry, weights)

    def _train_and_measure(self, entry: Entry, result: EntryResult, plan: TrainingPlan) -> None:
        cells: list[TrainedCell] = []
        psnr: list[float] = []
        for cell in train_entry(entry, plan, self.out / "training"):
            # Pictures and the detailed figures are of the first seed.
            quality = self._quality(entry, cell.weights, with_pictures=not cells)
            result.quality = result.quality or quality
            result.weights = result.weights if cells else str(cell.weights.relative_to(self.out.resolve()))
            cells.append(cell)
            psnr += [quality.psnr.mean] if quality else []
        result.training = Training(
            iterations=min(cell.iterations for cell in cells),
            seconds=max(cell.seconds for cell in cells),
            batch=int(training_data(entry, plan).get("batch_size_per_gpu", 1)),
            seeds=list(plan.seeds),
            psnr=psnr,
        )

    def _quality(self, entry: Entry, weights: Path | None, with_pictures: bool = True) -> Quality | None:
        if self.dataset is None:
            return None
        restorer = build_restorer(entry, weights)
        restore = restore_with(restorer, entry, self.device)
        pictures = {key: self._picture(key, self.cell(entry)) for key in self._compared_keys()} if with_pictures else {}
        quality = self._measured_quality(self.dataset, entry, restore, pictures)
        for key, path in pictures.items():
            blurred = self.dataset[self.dataset.keys.index(key)]["lq"][None].to(self.device).float() / 255
            write_extra_pictures(restorer.network, blurred, path.with_suffix(""))
        return quality

    def _measured_quality(
        self,
        dataset: DeblurPairDataset,
        entry: Entry,
        restore: Callable[[Tensor], Tensor],
        pictures: Mapping[str, Path],
    ) -> Quality:
        workers = int(dataset.opt.get("num_worker_per_gpu") or 0)
        frames = measure_frames(restore, dataset, self.options.protocol, self.device, workers, pictures, entry.label)
        return summarise(protocol_id(entry, self.options.protocol, dataset.opt.get("blur", "blur")), frames)

    # ------------------------------------------------------------------------------------------------------------------
    # What all entries share
    # ------------------------------------------------------------------------------------------------------------------

    def _blurred_quality(self, entries: Iterable[EntryResult]) -> list[Quality]:
        """Quality of the blurred frames; the cutting into tiles, which protocols name, does not touch it."""
        names = list(dict.fromkeys(entry.quality.protocol_id for entry in entries if entry.quality))
        if not names or self.dataset is None:
            return []
        measure = functools.partial(self._measured_quality, self.dataset, Entry("blurred"), lambda blurred: blurred, {})
        measured = self._kept(f"blurred-{self._digest()}", Quality, measure)
        return [dataclasses.replace(measured, protocol_id=name) for name in names]

    def _compared_keys(self) -> list[str]:
        keys = self.dataset.keys if self.dataset else []
        return [keys[number] for number in evenly_spaced(len(keys), self.options.comparison_frames)]

    def _picture(self, key: str, name: str) -> Path:
        return self.out / "pictures" / key / f"{name}.png"

    def _pictures(self, results: Sequence[EntryResult]) -> list[ComparedFrame]:
        cells = {
            result.label: self.cell(entry)
            for entry, result in zip(self.options.entries, results, strict=True)
            if result.quality
        }
        if not cells or self.dataset is None:
            return []
        return [self._compared_frame(self.dataset, key, cells) for key in self._compared_keys()]

    def _compared_frame(self, dataset: DeblurPairDataset, key: str, cells: Mapping[str, str]) -> ComparedFrame:
        data = dataset[dataset.keys.index(key)]
        for name, picture in (("blurred", data["lq"]), ("sharp", data["gt"])):
            write_restored(picture[None], self._picture(key, name))
        restored = {label: self._picture(key, cell) for label, cell in cells.items()}
        extra = {
            f"{label}: {path.stem.replace('_', ' ')}": self._relative(path)
            for label, picture in restored.items()
            for path in sorted(picture.with_suffix("").glob("*.png"))
        }
        return ComparedFrame(
            key,
            self._relative(self._picture(key, "blurred")),
            self._relative(self._picture(key, "sharp")),
            # Someone may have removed pictures of an earlier run.
            {label: self._relative(path) for label, path in restored.items() if path.is_file()},
            extra,
        )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.out).as_posix()


def compare_with_first(entries: Sequence[EntryResult]) -> None:
    """Fill in how each entry differs from the first of its protocol, and its training from the first trained one.

    Args:
        entries: Changed in place.
    """
    first_quality: dict[str, Quality] = {}
    first_trained: tuple[Training, Quality | None] | None = None
    for entry in entries:
        if entry.quality is not None:
            first = first_quality.setdefault(entry.quality.protocol_id, entry.quality)
            if first is not entry.quality:
                entry.quality.versus_first = paired_difference(entry.quality.frames, first.frames)
        if entry.training is not None and entry.training.psnr:
            if first_trained is None:
                first_trained = entry.training, entry.quality
            else:
                first_runs, first_frames = first_trained
                entry.training.verdict = _verdict_of_runs_and_frames(
                    entry.training, first_runs, (entry.quality, first_frames)
                )


def _verdict_of_runs_and_frames(training: Training, first: Training, qualities: Sequence[Quality | None]) -> str | None:
    """Verdict that the runs and the frames of two trained entries agree on; None where one has a single run."""
    if min(len(training.psnr), len(first.psnr)) < 2:
        return None
    measured = [quality for quality in qualities if quality is not None]
    is_comparable = len(measured) == 2 and measured[0].protocol_id == measured[1].protocol_id
    difference = paired_difference(measured[0].frames, measured[1].frames).psnr if is_comparable else None
    return verdict(difference, training.psnr, first.psnr)


def _stamp(path: str | Path) -> list[object]:
    """What changes with a file."""
    file = find_shipped(str(path)) or Path(path).expanduser()
    return [str(path), file.stat().st_mtime_ns, file.stat().st_size] if file.is_file() else [str(path)]


def warn_of_spread(label: str, latency: Latency) -> None:
    """Say at once, not only in the report, that a timing is of a busy machine.

    Args:
        label: Whose timing it is.
        latency: The timing.
    """
    if not is_steady(latency):
        tqdm.write(
            f"warning: {label} at {latency.height}x{latency.width} took from {latency.p10_ms:.3g} to "
            f"{latency.p90_ms:.3g} ms (p10 to p90) on {latency.device}: the machine is busy, end other work and "
            "measure again",
            file=sys.stderr,
        )
