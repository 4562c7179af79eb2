"""Measure how many training pairs a second come out of a DataLoader: BasicSR's reader and ours on the same frames.

Renders blurred and sharp 1280x720 frames into a temporary folder, stores them in every way, and reads 256 crops with
flips and transpositions in batches of 16 with 2 workers. All contenders take turns, so that what else the machine does
hits them alike; the figures are medians over the rounds.

* Warm: the files are in the page cache. Once the workers run, a round counts batches for a few seconds.
* Cold: the files are driven out of the page cache (what stayed is told), then every pair is read once; the start of the
  workers is part of the time.
* Shares: milliseconds a pair in one process, warm: reading and decoding; cropping and turning; collating a batch and
  copying it into shared memory; and where there is a GPU, copying it there from pinned memory.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import itertools
import json
import mmap
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from basicsr.data import paired_image_dataset
from basicsr.utils import FileClient
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from macr_plugin.basicsr_compat.lmdb_backend import mend_lmdb_environments
from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.picture_files import encode_png, read_picture
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage import readers
from macr_plugin.data.storage.crop_grid import CropGrid
from macr_plugin.data.storage.lmdb_environments import lmdb_environments
from macr_plugin.data.storage.lmdb_format import Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.data.synthesis.demo import PHOTO_FOLDER, SCENES
from macr_plugin.errors import InputError, one_line_errors

HEIGHT, WIDTH = 720, 1280
GT_SIZE = 256
BATCH_SIZE = 16
NUM_WORKERS = 2
WARM_UP_BATCHES = 6
CROP_GRID = CropGrid(size=480, step=240)
# With it the PNG files are about as large as GoPro's, 1.3 MB.
NOISE = 0.7


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


# --- the frames ------------------------------------------------------------------------------------------------------


def write_frames(root: Path, count: int) -> None:
    """Render frames in the GoPro layout, and store them and their crops in LMDBs beside it."""
    photos = [PHOTO_FOLDER / name for scenes in SCENES.values() for names in scenes.values() for name in names]
    for number in tqdm(range(count), desc="rendering", unit="pair"):
        generator = np.random.default_rng(number)
        sharp = render_frame(read_picture(photos[number % len(photos)]), generator)
        for kind, picture in (("blur", cv2.blur(sharp, (9, 1))), ("sharp", sharp)):
            noisy = np.clip(picture + generator.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)
            file = root / "frames" / f"scene{number % 20:02d}" / kind / f"{number:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_png(noisy))
    pairs = find_pairs(root / "frames")
    for kind in tqdm(("blur", "sharp"), desc="storing", unit="LMDB set"):
        files = [(pair.key, getattr(pair, kind)) for pair in pairs]
        write_image_lmdb(root / f"{kind}.lmdb", files)
        write_image_lmdb(root / f"{kind}_uncompressed.lmdb", files, Storage("uncompressed"))
        write_image_lmdb(root / f"{kind}_crops.lmdb", crop_frames(files))
        # BasicSR reads two folders with the same file names.
        flat = root / f"{kind}_files"
        flat.mkdir()
        for key, file in files:
            (flat / f"{key.replace('/', '-')}.png").hardlink_to(file)


def render_frame(photo: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blow a photograph up to a frame of its own: another part, side and brightness each time."""
    scale = max(HEIGHT / photo.shape[0], WIDTH / photo.shape[1]) * generator.uniform(1, 1.2)
    large = cv2.resize(photo, None, fx=scale * 1.01, fy=scale * 1.01, interpolation=cv2.INTER_CUBIC)
    top, left = (generator.integers(have - want + 1) for have, want in zip(large.shape, (HEIGHT, WIDTH), strict=False))
    part = large[top : top + HEIGHT, left : left + WIDTH, :: generator.choice([-1, 1])]
    return np.clip(part * generator.uniform(0.8, 1.0), 0, 255).astype(np.uint8)


def crop_frames(files: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, bytes]]:
    """The overlapping crops that the peers' preparation scripts cut."""
    for key, file in files:
        picture = read_picture(file)
        for number, (top, left) in enumerate(CROP_GRID.corners(*picture.shape[:2])):
            crop = picture[top : top + CROP_GRID.size, left : left + CROP_GRID.size]
            yield f"{key}_s{number:03d}", encode_png(crop)


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


def read_all(files: Sequence[Path]) -> None:
    """Bring files into the page cache."""
    for file in files:
        with file.open("rb") as data:
            while data.read(2**24):
                pass


def evict(files: Sequence[Path]) -> float:
    """Drive files out of the page cache.

    Returns:
        The share of their pages that is still in it.
    """
    kept = total = 0
    for file in files:
        with file.open("rb") as data:
            os.fsync(data.fileno())
            os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        pages = resident_pages(file)
        kept, total = kept + int(pages.sum()), total + len(pages)
    return kept / max(total, 1)


def resident_pages(file: Path) -> np.ndarray:
    """Which pages of a file are in the page cache: array of booleans."""
    size = file.stat().st_size
    if not size:
        return np.zeros(0, bool)
    with file.open("rb") as data, mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        view = np.frombuffer(memory, np.uint8)
        flags = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        failed = mincore(ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(flags.ctypes.data))
        del view
    if failed:
        raise OSError(ctypes.get_errno(), "mincore failed")
    return (flags & 1).astype(bool)


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
    turns = [contender for _ in range(rounds) for contender in contenders]
    with tqdm(total=2 * len(turns) + len(contenders), desc="measuring", unit="turn") as progress:
        for contender in turns:
            contender.cached.append(evict(contender.files))
            contender.cold.append(measure_cold(contender, frames))
            progress.update()
        for contender in contenders:
            read_all(contender.files)
        for contender in turns:
            contender.warm.append(measure_warm(contender, seconds))
            progress.update()
        # Last, since it maps files into this process, and what is mapped cannot be evicted.
        for contender in contenders:
            contender.stages = measure_stages(contender, batches=2)
            progress.update()


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


def status_kibibytes(pid: int, entry: str) -> int:
    """An entry of Linux's status file of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


# --- report ----------------------------------------------------------------------------------------------------------


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    packages = ("torch", "numpy", "opencv-python", "lmdb", "basicsr", "macr-plugin")
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def write_table(contenders: Sequence[Contender]) -> str:
    """The figures as a Markdown table."""
    stages = list(contenders[0].stages)
    baseline = statistics.median(contenders[0].warm)
    header = ["reader, storage", "warm pairs/s (range)", "of the first", "cold pairs/s", "left in cache"]
    rows = [[*header, *(f"{stage} ms (share)" for stage in stages)]]
    rows.append(["---", *["---:"] * (len(rows[0]) - 1)])
    for contender in contenders:
        warm, whole = statistics.median(contender.warm), sum(contender.stages.values())
        rows.append(
            [
                contender.name,
                f"{warm:.0f} ({min(contender.warm):.0f}-{max(contender.warm):.0f})",
                f"{warm / baseline:.1f}x",
                f"{statistics.median(contender.cold):.0f}",
                f"{max(contender.cached):.0%}",
                *(f"{contender.stages[stage]:.2f} ({contender.stages[stage] / whole:.0%})" for stage in stages),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plot(contenders: Sequence[Contender], path: Path) -> None:
    """Draw warm and cold pairs a second as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.7 * len(contenders) + 1), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(contenders))[::-1]
    for offset, kind in ((0.2, "warm"), (-0.2, "cold")):
        values = [statistics.median(getattr(contender, kind)) for contender in contenders]
        axes.bar_label(axes.barh(places + offset, values, 0.38, label=kind), fmt=" {:.0f}")
    axes.set_yticks(places, [contender.name for contender in contenders])
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel(f"pairs a second, {GT_SIZE} crops, {NUM_WORKERS} workers")
    axes.legend()
    figure.savefig(path, dpi=120)


def check_plot(path: Path | None) -> None:
    """Refuse a plot without matplotlib, before anything is measured."""
    if path and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install matplotlib, or leave it out")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200, help="pairs to render; 17 MB of disk each (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a warm turn (default: 4)")
    parser.add_argument("--soak", type=int, metavar="N", help="read N batches instead and report anonymous memory")
    parser.add_argument("--quick", action="store_true", help="few frames, one short round: figures mean little")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw them to this picture; needs matplotlib")
    options = parser.parse_args(arguments)
    if options.quick:
        options.frames, options.rounds, options.seconds = 16, 1, 0.2
    if min(options.frames, options.rounds) < 1 or (options.soak is not None and options.soak < 10):
        parser.error("--frames and --rounds must be at least 1, --soak at least 10")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    check_plot(options.plot)
    # Several contenders read one LMDB, which lmdb 2 and later refuse to open twice in a process.
    mend_lmdb_environments(lmdb_environments())
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
            print(", ".join(f"{name}: {value}" for name, value in report["machine"].items()))
            print(
                f"{options.frames} pairs of {WIDTH}x{HEIGHT}, {png_bytes / 1e6:.2f} MB a PNG file; load at the end ",
                end="",
            )
            print(f"{os.getloadavg()[0]:.1f}\n\n{write_table(contenders)}")
            if options.plot:
                plot(contenders, options.plot)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, default=str) + "\n")


if __name__ == "__main__":
    with one_line_errors("benchmark_data"):
        main()
