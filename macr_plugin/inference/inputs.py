"""What ``macr deblur`` is given: files, folders, patterns and lists, and where the result of each goes."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from macr_plugin.errors import InputError
from macr_plugin.filesystem.walk import file_identity, walk_files
from macr_plugin.inference.pictures import FORMATS
from macr_plugin.inference.video import CONTAINERS

#: Folder of the results where none is named.
DEFAULT_OUT = Path("deblurred")
KEEP = "keep"
SUFFIXES = (*FORMATS, *CONTAINERS)
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Job:
    """One file to deblur.

    Attributes:
        source: What is read.
        target: What is written.
        comparison: Where the blurred and the restored picture go side by side, if anywhere.
    """

    source: Path
    target: Path
    comparison: Path | None = None

    @property
    def targets(self) -> list[Path]:
        """All that is written."""
        return [self.target] if self.comparison is None else [self.target, self.comparison]


@dataclass(frozen=True)
class Failure:
    """Something that could not be deblurred.

    Attributes:
        name: The file, folder or pattern.
        reason: Why, and what to do, in one line.
    """

    name: str
    reason: str


def find_jobs(
    inputs: Sequence[str], out: Path | None, file_format: str = KEEP, compare: bool = False
) -> tuple[list[Job], list[Failure]]:
    """Find every file to deblur, and its place in the output.

    Args:
        inputs: Files, folders (searched with their subfolders, whose structure is kept), glob patterns, and ``-`` for a
            list on standard input, one of these a line.
        out: Folder of the results, or the one result if there is one input, a file, and this has a suffix of its kind.
            Default: the folder ``deblurred``.
        file_format: ``keep``, or the suffix of the resulting pictures without its dot.
        compare: Give pictures a place for a comparison, too.

    Returns:
        The jobs, sorted as they were given, each with a target of its own that is no source, and what cannot be done.

    Raises:
        InputError: If an input is empty, or ``out`` does not fit what was found.
    """
    names = list(_with_lists(inputs))
    if out is not None and _is_one_file(names, out):
        if file_format != KEEP:
            raise InputError(f"-o {out} names a file already: leave --format out")
        return _checked([_job(Path(names[0]), out, compare)])
    folder = out or DEFAULT_OUT
    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o {folder} is a file: name a folder for the results")
    jobs, failures = [], []
    for name in names:
        try:
            for source, place in _files(name, folder):
                if not source.is_file():
                    failures.append(Failure(str(source), f"{source} {_irregularity(source)}"))
                    continue
                keeps = file_format == KEEP or is_video(source)
                target = place if keeps else place.with_suffix(f".{file_format}")
                jobs.append(_job(source, folder / target, compare))
        except InputError as error:
            failures.append(Failure(name, str(error)))
    if jobs and not folder.is_dir() and folder.suffix.lower() in {*SUFFIXES, *Image.registered_extensions()}:
        raise InputError(f"-o {folder} is no name for a folder: for one input end it in {', '.join(SUFFIXES)}")
    jobs, refused = _checked(jobs)
    return jobs, failures + refused


def _job(source: Path, target: Path, compare: bool) -> Job:
    place = target.with_name(f"{target.stem}_compare{target.suffix}")
    return Job(source, target, place if compare and not is_video(source) else None)


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix."""
    return path.suffix.lower() in CONTAINERS


def _with_lists(inputs: Iterable[str]) -> Iterator[str]:
    for name in inputs:
        if name == STANDARD_INPUT:
            # Names need not be text: the system's are bytes.
            yield from (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer if line.strip())
        elif not name:
            # A variable of a shell that is not set: it would stand for the current folder.
            raise InputError("one input is empty: give a file, a folder or a pattern")
        else:
            yield name


def _is_one_file(names: Sequence[str], out: Path) -> bool:
    return len(names) == 1 and Path(names[0]).is_file() and not out.is_dir() and out.suffix.lower() in SUFFIXES


def _files(name: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Files that an input stands for, each with its place below the output folder."""
    path = Path(name)
    if path.is_dir():
        yield from _files_of_folder(path, out)
    elif path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} has no suffix of a picture or a video: expected {', '.join(SUFFIXES)}")
        yield path, Path(path.name)
    elif path.exists() or path.is_symlink():
        raise InputError(f"{path} {_irregularity(path)}")
    else:
        matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207
        if not matches:
            raise InputError(f"{name}: there is no such file or folder: check its name")
        for match in matches:
            yield from _files(glob.escape(match), out) if not Path(match).exists() else _files(match, out)


def _files_of_folder(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    if out.exists() and out.samefile(folder):
        raise InputError(f"{folder} would also be the output folder: name another one with -o")
    entries = walk_files(folder, [out], irregular=True)
    found = [path for path in entries if path.suffix.lower() in SUFFIXES or path.is_dir()]
    if not found:
        raise InputError(f"{folder} holds no pictures: expected {', '.join(SUFFIXES)}")
    yield from ((path, path.relative_to(folder)) for path in sorted(found))


def _irregularity(path: Path) -> str:
    """Why something cannot be read as a file, and what to do."""
    if path.is_dir():
        return "is a folder that cannot be listed: allow it, or leave it out"
    if not path.exists():
        return "is a link that leads nowhere: repair or remove it"
    return "is neither a file nor a folder: give a picture"


def _checked(jobs: Sequence[Job]) -> tuple[list[Job], list[Failure]]:
    """Refuse jobs that would write over a source or over another's result; one that comes twice is done once."""
    sources = {file_identity(job.source) for job in jobs if job.source.exists()}
    taken: dict[Path, Path] = {}
    accepted, failures = [], []
    for job in jobs:
        if _same_job(job, taken):
            continue
        reasons = [reason for target in job.targets if (reason := _clash(target, taken, sources))]
        if reasons:
            failures.append(Failure(str(job.source), f"{job.source} would be written to {reasons[0]}"))
        else:
            taken |= {_absolute(target): job.source for target in job.targets}
            accepted.append(job)
    return accepted, failures


def _same_job(job: Job, taken: Mapping[Path, Path]) -> bool:
    other = taken.get(_absolute(job.target))
    return other is not None and other.samefile(job.source)


def _clash(target: Path, taken: Mapping[Path, Path], sources: Container[tuple[int, int]]) -> str | None:
    """Why something cannot be written to a place; None if it can."""
    if target.exists() and file_identity(target) in sources:
        return f"{target}, which is a source: name another folder with -o"
    if _absolute(target) in taken:
        return f"{target}, as {taken[_absolute(target)]} is: rename one of them"
    return None


def _absolute(path: Path) -> Path:
    """The full path; links stay as they are named."""
    return Path(os.path.abspath(path))  # noqa: PTH100
