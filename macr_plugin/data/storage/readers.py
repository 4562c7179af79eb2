"""Read pictures from files, LMDBs of PNG files and LMDBs of uncompressed pictures, whole or in part.

Each reader gives RGB pictures by their keys. What it gives is taken apart as an array is, ``frame[rows, columns]``;
an uncompressed picture is read only then, and only the bands of rows that hold that part.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import lmdb
import numpy as np

from macr_plugin.data.picture_files import decode_picture, read_picture
from macr_plugin.data.storage.lmdb_environments import lmdb_environments
from macr_plugin.data.storage.lmdb_format import DATA_FILE, Encoding, band_key, checksums_key, read_sizes, read_storage
from macr_plugin.errors import InputError

ENCODINGS: Mapping[str, Encoding] = {"lmdb": "png", "uncompressed_lmdb": "uncompressed"}
# Read ahead: what is wanted is large, and page by page a disk takes eight to ten times as long.
READING = {"readonly": True, "lock": False, "readahead": True}


class PictureParts(Protocol):
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

    def read(self, key: str) -> PictureParts:
        """Read a picture (height, width, 3), uint8 RGB, or get ready to read parts of it."""


class FileReader:
    """Reads picture files from folders.

    Args:
        files: Key -> file.
        read_file: Reads one: uint8 array of shape (height, width, 3), BGR.
    """

    def __init__(self, files: Mapping[str, Path], read_file: Callable[[Path], np.ndarray] = read_picture) -> None:
        self._files = files
        self._read_file = read_file

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Key of the picture, ``scene/frame``.

        Returns:
            Its file.
        """
        return str(self._files[key])

    def read(self, key: str) -> np.ndarray:
        """Read a picture.

        Args:
            key: Key of the picture, ``scene/frame``.

        Returns:
            uint8 array of shape (height, width, 3), RGB.

        Raises:
            InputError: The file cannot be read, or is no picture that ``read_file`` takes.
        """
        return self._read_file(self._files[key])[..., ::-1]


class LmdbFolder:
    """An LMDB that pictures are read from, opened on the first read in each process and shared by all its readers.

    Args:
        path: The LMDB folder.

    Attributes:
        path: The LMDB folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Key of the picture, ``scene/frame``.

        Returns:
            The LMDB and the key.
        """
        return f"{self.path}: '{key}'"


class LmdbReader(LmdbFolder):
    """Reads pictures from an LMDB of PNG files, opened on the first read in each process and shared by all its readers.

    Args:
        path: The LMDB folder.
    """

    def read(self, key: str) -> np.ndarray:
        """Read a picture.

        Args:
            key: Key of the picture, ``scene/frame``.

        Returns:
            uint8 array of shape (height, width, 3), RGB.

        Raises:
            InputError: The LMDB cannot be opened or read, lacks the key, or holds no 8-bit colour picture under it.
        """
        try:
            data = lmdb_environments().get(str(self.path), key, **READING)
        except lmdb.Error as error:
            raise InputError(f"{self.name(key)} cannot be read ({error}): recreate the LMDB") from error
        if data is None:
            raise InputError(f"{self.name(key)} stands in meta_info.txt but not in data.mdb: recreate the LMDB")
        return decode_picture(data, self.name(key))[..., ::-1]


class UncompressedLmdbReader(LmdbFolder):
    """Reads parts of pictures from an LMDB of uncompressed pictures, shared by all its readers in a process.

    Of a frame the LMDB gives the bands that hold the wanted rows only, so that it may be larger than memory.

    Args:
        path: The LMDB folder.
        verify: Compare every band that is read with its checksum.

    Raises:
        InputError: ``data.mdb`` cannot be opened, holds more or fewer bands than ``meta_info.txt`` says, or has no
            checksums to verify.
    """

    def __init__(self, path: Path, verify: bool = False) -> None:
        super().__init__(path)
        self._sizes = read_sizes(path)
        storage = read_storage(path)
        self._rows_per_band = storage.rows_per_band
        self._verify = verify
        if verify and not storage.checksums:
            raise InputError(f"{path} has no checksums: prepare it again with --force, or set io_backend.verify: false")
        expected = sum(-(-height // self._rows_per_band) for height, _ in self._sizes.values())
        try:
            stored = lmdb_environments().count(str(path), **READING) - storage.checksums * len(self._sizes)
        except lmdb.Error as error:
            raise InputError(f"{path} cannot be read ({error}): recreate the LMDB") from error
        if stored != expected:
            raise InputError(
                f"{path / DATA_FILE} holds {stored} bands of {self._rows_per_band} rows, not the {expected} of the "
                f"pictures in meta_info.txt: recreate the LMDB"
            )

    def read(self, key: str) -> StoredFrame:
        """Get ready to read parts of a picture.

        Args:
            key: Key of the picture, ``scene/frame``.

        Returns:
            The picture.
        """
        return StoredFrame(self, key, (*self._sizes[key], 3), self._rows_per_band, self._verify)


class StoredFrame:
    """A picture in an LMDB of uncompressed pictures.

    Args:
        folder: The LMDB.
        key: Key of the picture.
        shape: Its height, width and 3.
        rows_per_band: Its rows in one value.
        verify: Compare every band that is read with its checksum.
    """

    def __init__(
        self, folder: LmdbFolder, key: str, shape: tuple[int, int, int], rows_per_band: int, verify: bool = False
    ) -> None:
        self.shape = shape
        self._folder = folder
        self._key = key
        self._rows_per_band = rows_per_band
        self._verify = verify

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """Read a part of the picture, and nothing of the bands that it does not touch.

        Args:
            part: Rows and columns, without steps.

        Returns:
            uint8 array of shape (rows, columns, 3), RGB.

        Raises:
            InputError: A band is missing, has another size than ``meta_info.txt`` says or, if that is verified, other
                content than its checksum says, or ``data.mdb`` cannot be read.
        """
        rows, columns = part
        top, bottom, _ = rows.indices(self.shape[0])
        bands = range(top // self._rows_per_band, -(-bottom // self._rows_per_band))
        keys = [band_key(self._key, number) for number in bands]
        if self._verify:
            keys.append(checksums_key(self._key))
        try:
            with lmdb_environments().values(str(self._folder.path), keys, **READING) as values:
                if self._verify:
                    checksums = values.pop()
                    self._check(bands, values, checksums)
                # Copied in here, where the values are valid: the wanted columns only.
                pixels = [self._pixels(number, value)[:, columns] for number, value in zip(bands, values, strict=True)]
                joined = np.concatenate(pixels)
        except lmdb.Error as error:
            raise InputError(f"{self._folder.name(self._key)} cannot be read ({error}): recreate the LMDB") from error
        skipped = top - bands.start * self._rows_per_band
        return joined[skipped : skipped + bottom - top]

    def _check(self, bands: range, values: Sequence[memoryview | None], checksums: memoryview | None) -> None:
        """Compare bands with their checksums; one that is missing is left to what reads it."""
        for number, value in zip(bands, values, strict=False):
            if value is None:
                continue
            if not checksums or zlib.crc32(value) != struct.unpack_from("<I", checksums, 4 * number)[0]:
                name = self._folder.name(band_key(self._key, number))
                raise InputError(f"{name} is damaged: its checksum is another one: recreate the LMDB")

    def _pixels(self, number: int, value: memoryview | None) -> np.ndarray:
        name = self._folder.name(band_key(self._key, number))
        if value is None:
            raise InputError(f"{name} is missing, a part of a picture in meta_info.txt: recreate the LMDB")
        height, width, channels = self.shape
        rows = min(self._rows_per_band, height - number * self._rows_per_band)
        if len(value) != rows * width * channels:
            raise InputError(
                f"{name} has {len(value)} bytes, not the {rows * width * channels} of {rows} rows of {width} pixels: "
                "recreate the LMDB"
            )
        return np.frombuffer(value, np.uint8).reshape(rows, width, channels)


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
            key: Key of the picture, ``scene/frame``.

        Returns:
            As the other reader names it.
        """
        return self._reader.name(key)

    def read(self, key: str) -> np.ndarray:
        """Read a picture, the first time with the other reader.

        Args:
            key: Key of the picture, ``scene/frame``.

        Returns:
            uint8 array of shape (height, width, 3), RGB.

        Raises:
            InputError: As the other reader.
        """
        if key not in self._pictures:
            self._pictures[key] = self._reader.read(key)[:, :]
        return self._pictures[key]


def open_lmdb(path: Path, backend: str, verify: bool = False) -> LmdbReader | UncompressedLmdbReader:
    """Choose the reader of an LMDB.

    Args:
        path: The LMDB folder.
        backend: ``lmdb`` or ``uncompressed_lmdb``, as the option file calls what it wants to read.
        verify: Compare what is read from uncompressed pictures with their checksums; PNG files have their own.

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
    return LmdbReader(path) if encoding == "png" else UncompressedLmdbReader(path, verify)
