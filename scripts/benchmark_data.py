"""Measure how many training pairs a second come out of a DataLoader: BasicSR's reader and ours on the same frames.

Renders blurred and sharp 1280x720 frames into a temporary folder, stores them in every way, and reads 256 crops with
flips and transpositions in batches of 16 with 2 workers. All contenders take turns, so that what else the machine does
hits them alike; the figures are medians over the rounds.

* Warm: the files are in the page cache. Once the workers run, a round counts batches for a few seconds.
* Cold: the files are removed from the page cache (what stayed is reported), then every pair is read once; starting the
  workers is part of the time.
* Shares: milliseconds a pair in one process, warm: reading and decoding; cropping and turning; collating a batch and
  copying it into shared memory; and where there is a GPU, copying it there from pinned memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from basicsr.data import paired_image_dataset
from basicsr.utils import FileClient
from frames import CROP_GRID, HEIGHT, WIDTH, write_frames
from measurement import (
    Bars,
    add_output_options,
    check_plot,
    describe_machine,
    draw_bars,
    load_at_the_end,
    markdown_table,
    median_and_range,
    one_line,
    status_kibibytes,
    take_turns,
    write_json,
)
from page_cache import evict, read_all
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from macr_plugin.basicsr_compat.lmdb_backend import patch_lmdb_environments
from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.storage import readers
from macr_plugin.data.storage.lmdb_environments import lmdb_environments
from macr_plugin.errors import one_line_errors

GT_SIZE = 256
BATCH_SIZE = 16
NUM_WORKERS = 2
WARM_UP_BATCHES = 6


@dataclass
class Contender:
    """A reader on a storage, and what was measured of it.

    Attributes:
        name: What the table calls it.
        dataset: Reads the pairs.
        files: What it reads from.
        warm: Pairs a second of each round.
        cold: Pairs a second of each round.
        cached: Share of the files that was still in the page cache before each cold round.
        stages: Milliseconds a pair of each stage.
    """

    name: str
    dataset: Dataset
    files: list[Path]
    warm: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)


class Draws:
    """A sampler as BasicSR's training program has it: shuffled epochs, and each number tells its draw.

    Args:
        size: Number of pairs.
        epochs: Number of epochs to go on for.
    """

    def __init__(self, size: int, epochs: int) -> None:
        self.size = size
        self.epochs = epochs

    def __iter__(self) -> Iterator[DrawnIndex]:
        for epoch in range(self.epochs):
            for index in np.random.default_rng(epoch).permutation(self.size).tolist():
                yield DrawnIndex(index, epoch, index)


def list_contenders(root: Path) -> list[Contender]:
    """Both readers on every storage that they read."""
    common = {"phase": "train", "gt_size": GT_SIZE, "use_hflip": True, "use_rot": True, "scale": 1, "manual_seed": 0}
    storages = {
        "full frames, PNG files": ("disk", "_files"),
        "full frames, PNG LMDB": ("lmdb", ".lmdb"),
        f"{CROP_GRID.size} crops, PNG LMDB": ("lmdb", "_crops.lmdb"),
        "full frames, uncompressed LMDB": ("uncompressed_lmdb", "_uncompressed.lmdb"),
    }
    contenders = []
    for reader in ("BasicSR", "ours as float", "ours"):
        for storage, (backend, ending) in storages.items():
            uncompressed = backend == "uncompressed_lmdb"
            if (reader == "BasicSR" and uncompressed) or (reader == "ours as float" and not uncompressed):
                continue
            places = {"dataroot_lq": str(root / f"blur{ending}"), "dataroot_gt": str(root / f"sharp{ending}")}
            opt = {**common, **places, "io_backend": {"type": backend}, "uint8": reader == "ours"}
            dataset_class = paired_image_dataset.PairedImageDataset if reader == "BasicSR" else DeblurPairDataset
            files = [file for place in places.values() for file in Path(place).iterdir()]
            contenders.append(Contender(f"{reader}, {storage}", dataset_class(opt), files))
    return contenders


# --- measuring -------------------------------------------------------------------------------------------------------


def measure_warm(contender: Contender, seconds: float) -> float:
    """Pairs a second of running workers."""
    loader = make_loader(contender.dataset, epochs=1_000_000)
    batches = iter(loader)
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count < 2:
        next(batches)
        count += 1
    return count * BATCH_SIZE / elapsed


def measure_cold(contender: Contender, limit: int) -> float:
    """Pairs a second of one epoch, or its beginning, from the start of the workers on."""
    start, count = time.perf_counter(), 0
    for batch in make_loader(contender.dataset, epochs=1):
        count += len(batch["gt"])
        if count >= limit:
            break
    return count / (time.perf_counter() - start)


def make_loader(dataset: Dataset, epochs: int) -> DataLoader:
    """Workers on one dataset."""
    return DataLoader(dataset, BATCH_SIZE, sampler=Draws(len(dataset), epochs), num_workers=NUM_WORKERS)


class Stopwatch:
    """Adds up the time that functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time added."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def measure_stages(contender: Contender, batches: int) -> dict[str, float]:
    """Milliseconds a pair of each stage, in this process."""
    # All that reads or decodes in either reader; none of them calls another.
    reading = [(paired_image_dataset, "imfrombytes"), (FileClient, "get"), (readers.StoredFrame, "__getitem__")]
    reading += [(reader, "read") for reader in (readers.FileReader, readers.LmdbReader, readers.UncompressedLmdbReader)]
    read, whole, collate, transfer = (Stopwatch() for _ in range(4))
    dataset, indices = contender.dataset, iter(Draws(len(contender.dataset), 1_000_000))
    with ExitStack() as patches:
        for owner, name in reading:
            patches.enter_context(mock.patch.object(owner, name, read.time(getattr(owner, name))))
        for _ in range(batches):
            samples = [whole.time(dataset.__getitem__)(index) for index in itertools.islice(indices, BATCH_SIZE)]
            batch = collate.time(collate_shared)(samples)
            if torch.cuda.is_available():
                transfer.time(move)([batch[name].pin_memory() for name in ("lq", "gt")])
    seconds = {"read, decode": read.seconds, "crop, turn": whole.seconds - read.seconds, "collate": collate.seconds}
    if torch.cuda.is_available():
        seconds["to the GPU"] = transfer.seconds
    return {stage: 1000 * value / (batches * BATCH_SIZE) for stage, value in seconds.items()}


def collate_shared(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Put a batch together and into shared memory, for which a worker needs one copy less."""
    batch = default_collate(samples)
    for name in ("lq", "gt"):
        batch[name].share_memory_()
    return batch


def move(pictures: Sequence[torch.Tensor]) -> None:
    """Copy pinned pictures to the GPU and wait for them."""
    for picture in pictures:
        picture.to("cuda", non_blocking=True)
    torch.cuda.synchronize()


def measure_all(contenders: Sequence[Contender], rounds: int, seconds: float, frames: int) -> None:
    """Let all contenders take turns."""
    for contender in take_turns(contenders, rounds, "cold"):
        contender.cached.append(evict(contender.files))
        contender.cold.append(measure_cold(contender, frames))
    for contender in contenders:
        read_all(contender.files)
    for contender in take_turns(contenders, rounds, "warm"):
        contender.warm.append(measure_warm(contender, seconds))
    # Last, since it maps files into this process, and what is mapped cannot be evicted.
    for contender in take_turns(contenders, 1, "stages"):
        contender.stages = measure_stages(contender, batches=2)


# --- soak ------------------------------------------------------------------------------------------------------------


def soak(dataset: Dataset, batches: int) -> dict[str, Any]:
    """Read batches on and on, and look at the anonymous memory of all processes.

    Returns:
        MiB of this process and of each worker after the first 200 batches, or the first tenth, and at the end.
    """
    loader = iter(make_loader(dataset, epochs=1_000_000))
    begin = min(200, batches // 10)
    for number in tqdm(range(batches), desc="soak", unit="batch"):
        if number == begin:
            before = anonymous_memory()
        next(loader)
    return {"batches": batches, "MiB at the start": before, "MiB at the end": anonymous_memory()}


def anonymous_memory() -> dict[str, float]:
    """MiB of anonymous memory of this process and its workers."""
    processes = {"main": os.getpid()}
    workers = sorted(process.pid for process in multiprocessing.active_children())
    processes.update({f"worker {number}": pid for number, pid in enumerate(workers)})
    return {name: status_kibibytes(pid, "RssAnon") / 1024 for name, pid in processes.items()}


# --- report ----------------------------------------------------------------------------------------------------------


def write_table(contenders: Sequence[Contender]) -> str:
    """The figures as a Markdown table."""
    stages = list(contenders[0].stages)
    baseline = statistics.median(contenders[0].warm)
    header = ["reader, storage", "warm pairs/s (range)", "of the first", "cold pairs/s", "left in cache"]
    rows = []
    for contender in contenders:
        warm, whole = statistics.median(contender.warm), sum(contender.stages.values())
        rows.append(
            [
                contender.name,
                median_and_range(contender.warm),
                f"{warm / baseline:.1f}x",
                f"{statistics.median(contender.cold):.0f}",
                f"{max(contender.cached):.0%}",
                *(f"{contender.stages[stage]:.2f} ({contender.stages[stage] / whole:.0%})" for stage in stages),
            ]
        )
    return markdown_table([*header, *(f"{stage} ms (share)" for stage in stages)], rows)


def plot(contenders: Sequence[Contender], path: Path) -> None:
    """Draw warm and cold pairs a second as bars."""
    medians = {kind: [statistics.median(getattr(one, kind)) for one in contenders] for kind in ("warm", "cold")}
    label = f"pairs a second, {GT_SIZE} crops, {NUM_WORKERS} workers"
    draw_bars([Bars(label, [one.name for one in contenders], medians, logarithmic=True)], path)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200, help="pairs to render; 17 MB of disk each (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a warm turn (default: 4)")
    parser.add_argument("--soak", type=int, metavar="N", help="read N batches instead and report anonymous memory")
    parser.add_argument("--quick", action="store_true", help="few frames, one short round: figures mean little")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    if options.quick:
        options.frames, options.rounds, options.seconds = 8, 1, 0.1
    if min(options.frames, options.rounds) < 1 or (options.soak is not None and options.soak < 10):
        parser.error("--frames and --rounds must be at least 1, --soak at least 10")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    check_plot(options.plot)
    # Several contenders read one LMDB, which lmdb 2 and later refuse to open twice in a process.
    patch_lmdb_environments(lmdb_environments())
    report: dict[str, Any] = {"machine": describe_machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="macr-benchmark-", dir=options.folder) as folder:
        write_frames(Path(folder), options.frames)
        contenders = list_contenders(Path(folder))
        if options.soak:
            # The last is the fastest: bytes from the uncompressed LMDB.
            report["soak"] = soak(contenders[-1].dataset, options.soak)
            print(json.dumps(report["soak"], indent=2))
        else:
            png_bytes = statistics.mean(file.stat().st_size for file in contenders[0].files)
            report["mean PNG bytes"] = png_bytes
            measure_all(contenders, options.rounds, options.seconds, options.frames)
            measured = [
                {name: value for name, value in vars(one).items() if name not in ("dataset", "files")}
                for one in contenders
            ]
            report["contenders"] = measured
            print(one_line(report["machine"]))
            print(
                f"{options.frames} pairs of {WIDTH}x{HEIGHT}, {png_bytes / 1e6:.2f} MB a PNG file; {load_at_the_end()}"
            )
            print(f"\n{write_table(contenders)}")
            if options.plot:
                plot(contenders, options.plot)
    write_json(options.json, report)


if __name__ == "__main__":
    with one_line_errors("benchmark_data"):
        main()
