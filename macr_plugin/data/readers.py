"""Read pictures from files, LMDBs of PNG files and LMDBs of uncompressed pictures, whole or in part.

Each reader gives RGB pictures by their keys. What it gives is taken apart as an array is, ``frame[rows, columns]``;
an uncompressed picture is read only then, and only that part of it is copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import lmdb
import numpy as np

from macr_plugin.basicsr_compat import lmdb_environments
from macr_plugin.data.gopro import decode_picture, read_bytes
from macr_plugin.data.lmdb import Encoding, read_sizes, read_storage
from macr_plugin.data.lmdb_layout import DATA_FILE, Extent, find_values
from macr_plugin.errors import InputError

ENCODINGS: Mapping[str, Encoding] = {"lmdb": "png", "uncompressed_lmdb": "uncompressed"}


class Frame(Protocol):
    """A picture that parts can be taken from; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and 3."""

    def __getitem__(self, part: tuple[slice, slice], /) -> np.ndarray:
        """Rows and columns of the picture: uint8 array of shape (rows, columns, 3), RGB."""


class Reader(Protocol):
    """Gives pictures by their keys."""

    def name(self, key: str) -> str:
        """Name a picture for a message."""

    def read(self, key: str) -> Frame:
        """Read a picture, or get ready to read parts of it."""


class FileReader:
    """Reads picture files from folders.

    Args:
        files: Key -> file.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Its key.

        Returns:
            Its file.
        """
        return str(self._files[key])

    def read(self, key: str) -> np.ndarray:
        """Read a picture.

        Args:
            key: Its key.

        Returns:
            uint8 array of shape (height, width, 3), RGB.

        Raises:
            InputError: The file cannot be read, or is no 8-bit colour picture.
        """
        return decode_picture(read_bytes(self._files[key]), self.name(key))[..., ::-1]


class LmdbReader:
    """Reads pictures from an LMDB of PNG files, opened on the first read in each process and shared by all its readers.

    Args:
        path: The LMDB folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Its key.

        Returns:
            The LMDB and the key.
        """
        return f"{self._path}: '{key}'"

    def read(self, key: str) -> np.ndarray:
        """Read a picture.

        Args:
            key: Its key.

        Returns:
            uint8 array of shape (height, width, 3), RGB.

        Raises:
            InputError: The LMDB cannot be opened or read, lacks the key, or holds no 8-bit colour picture under it.
        """
        try:
            # Read ahead: a picture is read whole, and page by page a disk takes ten times as long.
            data = lmdb_environments().get(str(self._path), key, readonly=True, lock=False, readahead=True)
        except lmdb.Error as error:
            raise InputError(f"{self.name(key)} cannot be read ({error}): recreate the LMDB") from error
        if data is None:
            raise InputError(f"{self.name(key)} stands in meta_info.txt but not in data.mdb: recreate the LMDB")
        return decode_picture(data, self.name(key))[..., ::-1]


class UncompressedLmdbReader:
    """Reads parts of pictures from an LMDB of uncompressed pictures, mapped on the first read in each process.

    Of a frame that is not in memory, the disk gives the wanted rows only, so that the LMDB may be larger than memory.

    Args:
        path: The LMDB folder.

    Raises:
        InputError: A picture is not in ``data.mdb``, or not as large as ``meta_info.txt`` says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes = read_sizes(path)
        self._values = find_values(path)
        self._memory: mmap.mmap | None = None
        for key, (height, width) in self._sizes.items():
            if key not in self._values:
                raise InputError(f"{self.name(key)} stands in meta_info.txt but not in data.mdb: recreate the LMDB")
            if self._values[key].length != height * width * 3:
                raise InputError(
                    f"{self.name(key)} has {self._values[key].length} bytes, not the {height * width * 3} of "
                    f"{width}x{height} in meta_info.txt: recreate the LMDB"
                )

    def __reduce__(self) -> tuple[type[UncompressedLmdbReader], tuple[Path]]:
        return UncompressedLmdbReader, (self._path,)

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Its key.

        Returns:
            The LMDB and the key.
        """
        return f"{self._path}: '{key}'"

    def read(self, key: str) -> StoredFrame:
        """Get ready to read parts of a picture.

        Args:
            key: Its key.

        Returns:
            The picture.

        Raises:
            InputError: ``data.mdb`` cannot be opened.
        """
        if self._memory is None:
            self._memory = _map_file(self._path / DATA_FILE)
        return StoredFrame(self._memory, self._values[key], (*self._sizes[key], 3))


class StoredFrame:
    """An uncompressed picture in a mapped file.

    Args:
        memory: The file.
        extent: Where the picture lies in it.
        shape: Its height, width and 3.
    """

    def __init__(self, memory: mmap.mmap, extent: Extent, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._memory = memory
        self._extent = extent

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """Copy a part of the picture, touching its rows only.

        Args:
            part: Rows and columns, without steps.

        Returns:
            uint8 array of shape (rows, columns, 3), RGB.
        """
        height, width, channels = self.shape
        top, bottom, _ = part[0].indices(height)
        start = self._extent.start + top * width * channels
        length = (bottom - top) * width * channels
        first_byte_of_page = start - start % mmap.PAGESIZE
        # All in one request to the disk instead of one a page.
        self._memory.madvise(mmap.MADV_WILLNEED, first_byte_of_page, start + length - first_byte_of_page)
        rows = np.frombuffer(self._memory, np.uint8, length, start)
        return rows.reshape(bottom - top, width, channels)[:, part[1]].copy()


class CachedReader:
    """Keeps every picture that another reader read, uncompressed, in the memory of this process.

    Args:
        reader: The other reader.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._pictures: dict[str, np.ndarray] = {}

    def __reduce__(self) -> tuple[type[CachedReader], tuple[Reader]]:
        return CachedReader, (self._reader,)

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Its key.

        Returns:
            As the other reader names it.
        """
        return self._reader.name(key)

    def read(self, key: str) -> np.ndarray:
        """Read a picture, the first time with the other reader.

        Args:
            key: Its key.

        Returns:
            uint8 array of shape (height, width, 3), RGB.

        Raises:
            InputError: As the other reader.
        """
        if key not in self._pictures:
            self._pictures[key] = self._reader.read(key)[:, :]
        return self._pictures[key]


def open_lmdb(path: Path, backend: str) -> LmdbReader | UncompressedLmdbReader:
    """Choose the reader of an LMDB.

    Args:
        path: The LMDB folder.
        backend: ``lmdb`` or ``uncompressed_lmdb``, as the option file calls what it wants to read.

    Returns:
        The reader.

    Raises:
        InputError: The folder is no LMDB, it stores its pictures otherwise, or it is damaged.
    """
    encoding = read_storage(path).storage
    if encoding != ENCODINGS[backend]:
        right = next(name for name, other in ENCODINGS.items() if other == encoding)
        raise InputError(
            f"{path} holds {encoding} pictures and io_backend has type {backend}: set type: {right}, or name an LMDB "
            f"of {ENCODINGS[backend]} pictures"
        )
    return LmdbReader(path) if encoding == "png" else UncompressedLmdbReader(path)


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # What is wanted is asked for: reading ahead of it would push other frames out of memory.
    memory.madvise(mmap.MADV_RANDOM)
    return memory
