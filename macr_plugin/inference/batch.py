"""Deblurs many files: reads ahead, writes behind, goes on where it was stopped, and counts what failed."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch.distributed
from tqdm import tqdm

from macr_plugin.errors import InputError
from macr_plugin.inference.deblurrer import DEFAULT_WEIGHTS, Deblurrer
from macr_plugin.inference.inputs import DEFAULT_OUT, KEEP, STANDARD_INPUT, Failure, Job, find_jobs, is_video
from macr_plugin.inference.pictures import Picture, read_picture, to_8_bit, write_picture
from macr_plugin.inference.record import Record
from macr_plugin.inference.trained_network import find_weights
from macr_plugin.inference.video import deblur_video
from macr_plugin.visualization import side_by_side

#: Files that are read ahead, and written behind, at once: what lies in memory is bounded by it.
MOST_AHEAD = 4

Result = TypeVar("Result")


@dataclass
class Summary:
    """What became of every file.

    Attributes:
        done: Number of files deblurred.
        skipped: Number of files that were done before.
        failed: The others, with reasons.
    """

    done: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Count what another process did."""
        self.done += other.done
        self.skipped += other.skipped
        self.failed += other.failed

    def __str__(self) -> str:
        counts = f"{self.done} done, {self.skipped} skipped, {len(self.failed)} failed"
        return "\n".join([counts, *(f"failed: {_printable(failure.reason)}" for failure in self.failed)])


def _printable(text: str) -> str:
    """One line that terminals take: names of files may hold ends of lines, escapes, and bytes that are no text."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


@dataclass(frozen=True)
class Settings:
    """How the files are deblurred; see :class:`~macr_plugin.inference.deblurrer.Deblurrer`.

    Attributes:
        weights: Name, file or folder.
        device: Where.
        precision: In which.
        tile: ``auto``, 0 or the side of a tile.
        ensemble: Average eight ways.
        compare: Also write ``NAME_compare``, the blurred and the restored picture side by side.
        file_format: ``keep``, or the suffix of the results without its dot.
        overwrite: Write over what is there.
    """

    weights: str = DEFAULT_WEIGHTS
    device: str = "auto"
    precision: str = "auto"
    tile: int | str = "auto"
    ensemble: bool = False
    compare: bool = False
    file_format: str = KEEP
    overwrite: bool = False


def deblur_files(inputs: Sequence[str], out: Path | None = None, settings: Settings | None = None) -> Summary:
    """Deblur files, each written atomically; what was done before with the same settings is skipped.

    Started by ``torchrun``, each process takes its share of the files, and the first returns what all have done.

    Args:
        inputs: Files, folders, patterns, or ``-`` for a list on standard input.
        out: Folder of the results, or the one result of one file. Default: ``deblurred``.
        settings: How.

    Returns:
        What was done; a file that fails is reported there, with the others still done.

    Raises:
        InputError: If nothing can be done at all.
    """
    settings = settings or Settings()
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1 and STANDARD_INPUT in inputs:
        raise InputError("- is read by one process alone, and torchrun started several: give the files or a folder")
    jobs, failures = find_jobs(inputs, out, settings.file_format, settings.compare)
    summary = Summary(failed=failures if rank == 0 else [])
    folder = out or DEFAULT_OUT
    is_folder = not jobs or jobs[0].target != out
    record = Record(folder, _result_settings(settings), rank) if is_folder else None
    # Videos, which take longest, first: no process gets all of them.
    share = sorted(jobs, key=lambda job: not is_video(job.source))[rank::processes]
    pending = [job for job in share if _is_pending(job, record, settings.overwrite, summary)]
    if pending:
        deblurrer = _deblurrer(settings, processes)
        pictures = [job for job in pending if not is_video(job.source)]
        if pictures:
            _deblur_pictures(pictures, deblurrer, record, summary)
        for job in pending:
            if is_video(job.source):
                _deblur_video(job, deblurrer, record, summary)
    return _gathered(summary, processes)


def _result_settings(settings: Settings) -> dict[str, str | bool]:
    """What a result depends on: tiles do not change it."""
    digest = hashlib.sha256(find_weights(settings.weights).read_bytes()).hexdigest()
    return {
        "weights": digest,
        "precision": settings.precision,
        "ensemble": settings.ensemble,
        "compare": settings.compare,
    }


def _is_pending(job: Job, record: Record | None, overwrite: bool, summary: Summary) -> bool:
    try:
        if record is None:
            if job.target.exists() and not overwrite:
                raise InputError(f"{job.target} is there already: give --overwrite, or another name with -o")
        elif record.is_done(job):
            summary.skipped += 1
            return False
    except InputError as error:
        if not overwrite:
            summary.failed.append(Failure(str(job.source), str(error)))
            return False
    return True


def _deblurrer(settings: Settings, processes: int) -> Deblurrer:
    device = settings.device
    if processes > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    tile = settings.tile
    if tile != "auto":
        try:
            tile = int(tile)
        except ValueError as error:
            raise InputError(f"--tile {tile}: give auto, 0 for the whole picture, or a side in pixels") from error
    return Deblurrer(settings.weights, device, settings.precision, tile, settings.ensemble)  # type: ignore[arg-type]


def _deblur_pictures(jobs: Sequence[Job], deblurrer: Deblurrer, record: Record | None, summary: Summary) -> None:
    """Read in threads, restore in this one, write in others."""
    workers = min(MOST_AHEAD, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(workers) as readers,
        ThreadPoolExecutor(workers) as writers,
        tqdm(total=len(jobs), unit="frame", desc="deblur") as progress,
    ):

        def finish(job: Job, notes: Callable[[], list[str]]) -> None:
            with _failure_counted(job, summary):
                _say(job, notes())
                summary.done += 1
            progress.update()

        written: deque[tuple[Job, Future[list[str]]]] = deque()
        for job, read in _ahead(readers, lambda job: read_picture(job.source), jobs, workers):
            failed = len(summary.failed)
            with _failure_counted(job, summary):
                blurred = read.result()
                restored = deblurrer.restore_picture(blurred)
                written.append((job, writers.submit(_write, job, blurred, restored, record)))
            if len(summary.failed) > failed:
                progress.update()
            while len(written) > workers or (written and written[0][1].done()):
                finish(written[0][0], written.popleft()[1].result)
        for job, writing in written:
            finish(job, writing.result)


def _deblur_video(job: Job, deblurrer: Deblurrer, record: Record | None, summary: Summary) -> None:
    """Deblur one video, written atomically; ``--compare`` leaves it alone."""
    with _failure_counted(job, summary), tqdm(unit="frame", desc=job.source.name) as progress:

        def show(done: int, frames: int) -> None:
            progress.total = frames or None
            progress.update(done - progress.n)

        notes = deblur_video(job.source, job.target, deblurrer.restore, show)
        if record is not None:
            record.add(job, job.target.stat())
        _say(job, notes)
        summary.done += 1


def _say(job: Job, notes: Sequence[str]) -> None:
    for note in notes:
        tqdm.write(_printable(f"{job.source}: {note}"), file=sys.stderr)


@contextmanager
def _failure_counted(job: Job, summary: Summary) -> Iterator[None]:
    """Count an error of the body as a failure of its job; the others go on."""
    try:
        yield
    except InputError as error:
        summary.failed.append(Failure(str(job.source), str(error)))
    # Whatever one file does to a library, the other files are done.
    except Exception as error:
        reason = f"{job.source}: {type(error).__name__}: {' '.join(str(error).split())}"
        summary.failed.append(Failure(str(job.source), reason))


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[Job], Result], jobs: Sequence[Job], depth: int
) -> Iterator[tuple[Job, Future[Result]]]:
    """Each job with what is read for it, ``depth`` of them ahead."""
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    for job in jobs:
        waiting.append((job, pool.submit(read, job)))
        if len(waiting) > depth:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _write(job: Job, blurred: Picture, restored: Picture, record: Record | None) -> list[str]:
    if job.comparison is not None:
        _write_comparison(blurred, restored, job.comparison)
    write_picture(restored, job.target, None if record is None else lambda file: record.add(job, file))
    return restored.notes


def _write_comparison(blurred: Picture, restored: Picture, target: Path) -> None:
    pictures = {"blurred": blurred.pixels, "restored": restored.pixels}
    shown = {
        name: np.ascontiguousarray((to_8_bit(pixels) if pixels.dtype == np.uint16 else pixels)[..., ::-1])
        for name, pixels in pictures.items()
    }
    both = side_by_side(shown, max_side=max(blurred.pixels.shape))
    write_picture(Picture(np.ascontiguousarray(both[..., ::-1]), jpeg=restored.jpeg), target)


def _gathered(summary: Summary, processes: int) -> Summary:
    """The summary of all processes. None ends before the others: torchrun would stop those when it fails."""
    if processes == 1:
        return summary
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=365))
    summaries: list[Summary] = [Summary()] * processes
    torch.distributed.all_gather_object(summaries, summary)
    torch.distributed.destroy_process_group()
    total = Summary()
    for one in summaries:
        total.add(one)
    return total
