"""Linux's page cache: bring files into it, and drive them out."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


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
