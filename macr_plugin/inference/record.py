"""Remembers what is done in an output folder, so that a run that was killed goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError
from macr_plugin.inference.inputs import Job

FILE_NAME = ".macr_deblur{rank}.jsonl"


class Record:
    """The finished files of an output folder, each with the source and the settings that it was made from.

    A line is written before its file gets its name: a kill in between leaves a line without a file, which counts for
    nothing. Size and time of change tell whether the file is still the one that was written.

    Args:
        folder: The output folder.
        settings: What the results depend on besides their sources.
        rank: Number of this process among several that write into the folder, each its own file.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], rank: int = 0) -> None:
        self.folder = folder
        self.settings = settings
        self._file = folder / FILE_NAME.format(rank=f".{rank}" if rank else "")
        self._lines: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(folder.glob(FILE_NAME.format(rank="*"))):
            self._read(file)

    def _read(self, file: Path) -> None:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                self._lines.setdefault(entry["target"], []).append(entry)
            # The last line of a run that was killed may be cut.
            except (ValueError, KeyError, TypeError):
                continue

    def is_done(self, job: Job) -> bool:
        """Whether the target of a job is there, made from the same source with the same settings.

        Raises:
            InputError: If something else is there.
        """
        if not job.target.exists():
            return False
        expected = self._entry(job, job.target.stat())
        if expected in self._lines.get(expected["target"], []):
            return True
        raise InputError(
            f"{job.target} is there already, and not from this source with these settings: give --overwrite, or "
            "another folder with -o"
        )

    def add(self, job: Job, written: os.stat_result) -> None:
        """Note a file that is complete, best before it gets its name.

        Args:
            job: What it is for.
            written: Its size and time of change.
        """
        line = json.dumps(self._entry(job, written))
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n" if file.tell() else f"{line}\n")

    def _entry(self, job: Job, written: os.stat_result) -> dict[str, Any]:
        source = job.source.stat()
        return {
            "target": job.target.relative_to(self.folder).as_posix(),
            "source": str(job.source.resolve()),
            "source_size": source.st_size,
            "source_time": source.st_mtime_ns,
            "settings": self.settings,
            "size": written.st_size,
            "time": written.st_mtime_ns,
        }
