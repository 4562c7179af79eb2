"""What ``macr deblur`` is given: files, folders, patterns and lists, and where the result of each goes."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """

    source: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """Something that could not be deblurred.

    Attributes:
        name: The file, folder or pattern.
        reason: Why, and what to do, in one line.
    """

    name: str
    reason: str


def find_jobs(inputs: Sequence[str], out: Path | None, file_format: str = KEEP) -> tuple[list[Job], list[Failure]]:
    """Find every file to deblur, and its place in the output.

    Args:
        inputs: Files, folders (searched with their subfolders, whose structure is kept), glob patterns, and ``-`` for a
            list on standard input, one of these a line.
        out: Folder of the results, or the one result if there is one input, a file, and this has a suffix of its kind.
            Default: the folder ``deblurred``.
        file_format: ``keep``, or the suffix of the resulting pictures without its dot.

    Returns:
        The jobs, sorted as they were given, each with a target of its own that is no source, and what cannot be done.

    Raises:
        InputError: If the output folder is also an input.
    """
    names = list(_with_lists(inputs))
    if out is not None and _is_one_file(names, out):
        if file_format != KEEP:
            raise InputError(f"-o {out} names a file already: leave --format out")
        return _checked([Job(Path(names[0]), out)])
    folder = out or DEFAULT_OUT
    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o {folder} is a file: name a folder for the results")
    jobs, failures = [], []
    for name in names:
        try:
            for source, place in _files(name, folder):
                keeps = file_format == KEEP or is_video(source)
                target = place if keeps else place.with_suffix(f".{file_format}")
                jobs.append(Job(source, folder / target))
        except InputError as error:
            failures.append(Failure(name, str(error)))
    jobs, refused = _checked(jobs)
    return jobs, failures + refused


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix."""
    return path.suffix.lower() in CONTAINERS


def _with_lists(inputs: Iterable[str]) -> Iterator[str]:
    for name in inputs:
        if name == STANDARD_INPUT:
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
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
    elif path.exists():
        raise InputError(f"{path} is neither a file nor a folder: give a picture")
    else:
        matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207
        if not matches:
            raise InputError(f"{name}: there is no such file or folder: check its name")
        for match in matches:
            yield from _files(glob.escape(match), out) if not Path(match).exists() else _files(match, out)


def _files_of_folder(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    if out.exists() and out.samefile(folder):
        raise InputError(f"{folder} would also be the output folder: name another one with -o")
    found = [path for path in walk_files(folder, [out]) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(f"{folder} holds no pictures: expected {', '.join(SUFFIXES)}")
    yield from ((path, path.relative_to(folder)) for path in sorted(found))


def _checked(jobs: Sequence[Job]) -> tuple[list[Job], list[Failure]]:
    """Refuse jobs that would write over a source or over another's result; one that comes twice is done once."""
    sources = {file_identity(job.source) for job in jobs if job.source.exists()}
    taken: dict[Path, Path] = {}
    accepted, failures = [], []
    for job in jobs:
        target = Path(os.path.abspath(job.target))  # noqa: PTH100  links stay as they are named
        if target in taken and taken[target].samefile(job.source):
            continue
        if job.target.exists() and file_identity(job.target) in sources:
            reason = f"{job.source} would be written to {job.target}, which is a source: name another folder with -o"
            failures.append(Failure(str(job.source), reason))
        elif target in taken:
            reason = f"{job.source} would be written to {job.target}, as {taken[target]} is: rename one of them"
            failures.append(Failure(str(job.source), reason))
        else:
            taken[target] = job.source
            accepted.append(job)
    return accepted, failures
