"""Write pictures into LMDBs, and read what an LMDB says about itself.

An LMDB of pictures is a folder with three files: ``data.mdb`` (key -> picture), ``meta_info.txt``, one line a picture,
and ``storage.json``, which says how the pictures are stored:

* ``png``, which BasicSR reads: each value is a PNG file, its line ``scene/frame.png (height,width,3) 1``. BasicSR takes
  what stands before the first dot as the key; keys with dots, which its own tool writes, are read here too.
* ``uncompressed``: a picture is cut into bands of ``rows_per_band`` rows, the last of which may be shorter. Each value
  is a band, uint8 RGB, row after row, rows x width x 3 bytes, under the key ``scene/frame.0000`` and so on; no picture
  has a dot in its key. Under ``scene/frame.crc`` stand the CRC-32 of its bands, four bytes each, little-endian; LMDBs
  of earlier versions have none. The line is ``scene/frame.raw (height,width,3) uncompressed``. LMDB gives a value whole
  or not at all, so that a reader that wants a crop reads the bands that the crop touches.

LMDBs of other programs have no ``storage.json`` and hold PNG files.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np

from macr_plugin.data.pairs import picture_key
from macr_plugin.data.picture_files import PNG_COMPRESSION, PNG_SIGNATURE, encode_png
from macr_plugin.errors import InputError

Encoding = Literal["png", "uncompressed"]
DATA_FILE = "data.mdb"
META_INFO = "meta_info.txt"
STORAGE_FILE = "storage.json"
META_LINE = re.compile(r"(?P<name>.+) \((?P<height>\d+),(?P<width>\d+),\d+\) \w+")
RAW_SUFFIX = "raw"
# Few reads for a crop, and few rows in them that it does not want.
ROWS_PER_BAND = 32


@dataclass(frozen=True)
class Storage:
    """How the pictures of an LMDB are stored, as its ``storage.json`` says.

    Attributes:
        storage: ``png`` or ``uncompressed``.
        blur: Which blurred version of GoPro it holds, ``blur`` or ``blur_gamma``; None for sharp pictures, other data
            sets and LMDBs that do not say.
        rows_per_band: Rows of a picture in one value of an uncompressed LMDB.
        checksums: Whether an uncompressed LMDB has a checksum of each band.
    """

    storage: Encoding = "png"
    blur: str | None = None
    rows_per_band: int = ROWS_PER_BAND
    checksums: bool = True

    def describe(self) -> dict[str, Any]:
        """Describe the storage as ``storage.json`` does.

        Returns:
            The attributes that matter for it.
        """
        described = asdict(self)
        if self.storage == "png":
            del described["rows_per_band"], described["checksums"]
        return described


def picture_entries(key: str, picture: np.ndarray, storage: Storage, file: bytes = b"") -> list[tuple[str, bytes]]:
    """Turn a picture into what an LMDB holds for it.

    Args:
        key: Key of the picture, ``scene/frame``.
        picture: uint8 array of shape (height, width, 3), BGR.
        storage: How the LMDB stores pictures.
        file: The whole file that the picture was decoded from, if it is stored as it was read. A PNG file is kept byte
            for byte in a ``png`` LMDB.

    Returns:
        Keys and values: a PNG file under the key of the picture, or the RGB bytes of each band under a key of its own.
    """
    if storage.storage == "png":
        return [(key, file if file.startswith(PNG_SIGNATURE) else encode_png(picture))]
    pixels, rows = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), storage.rows_per_band
    bands = [pixels[top : top + rows].tobytes() for top in range(0, len(pixels), rows)]
    entries = [(band_key(key, number), band) for number, band in enumerate(bands)]
    if storage.checksums:
        entries.append((checksums_key(key), struct.pack(f"<{len(bands)}I", *map(zlib.crc32, bands))))
    return entries


def band_key(key: str, number: int) -> str:
    """Name a band of an uncompressed picture.

    Args:
        key: Key of the picture.
        number: Number of the band, from 0 at the top.

    Returns:
        The key of its value.
    """
    return f"{key}.{number:04d}"


def checksums_key(key: str) -> str:
    """Name the checksums of an uncompressed picture.

    Args:
        key: Key of the picture.

    Returns:
        The key of their value.
    """
    return f"{key}.crc"


def meta_line(key: str, size: tuple[int, int], encoding: Encoding) -> str:
    """Write the line of ``meta_info.txt`` for one picture.

    Args:
        key: Key of the picture, ``scene/frame``.
        size: Its height and width.
        encoding: How it is stored.

    Returns:
        The line without its end.
    """
    suffix, note = ("png", PNG_COMPRESSION) if encoding == "png" else (RAW_SUFFIX, encoding)
    return f"{key}.{suffix} ({size[0]},{size[1]},3) {note}"


def write_storage(path: Path, storage: Storage, details: Mapping[str, Any] | None = None) -> None:
    """Write ``storage.json`` into an LMDB folder.

    Args:
        path: The LMDB folder.
        storage: How its pictures are stored.
        details: What else to note, left unread by :func:`read_storage`.
    """
    (path / STORAGE_FILE).write_text(json.dumps({**storage.describe(), **(details or {})}, indent=2) + "\n")


def read_meta_info(path: Path) -> list[str]:
    """Read the keys of an LMDB from its ``meta_info.txt``.

    Args:
        path: The LMDB folder.

    Returns:
        Keys in the order of the file: the names without the extension.

    Raises:
        InputError: The folder is missing, is no LMDB, or has no list of keys or an empty one.
    """
    return [_meta_key(_meta_name(line)) for line in _meta_lines(path)]


def read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Read the keys and the sizes of the pictures of an LMDB from its ``meta_info.txt``.

    Args:
        path: The LMDB folder.

    Returns:
        Key -> height and width, in the order of the file.

    Raises:
        InputError: As :func:`read_meta_info`, or a line does not tell the size of its picture.
    """
    sizes = {}
    for line in _meta_lines(path):
        match = META_LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path / META_INFO} has a line '{line}', which tells no size: recreate {path.name}")
        sizes[_meta_key(match["name"])] = (int(match["height"]), int(match["width"]))
    return sizes


def read_storage(path: Path) -> Storage:
    """Read how the pictures of an LMDB are stored.

    Args:
        path: The LMDB folder.

    Returns:
        What ``storage.json`` says. Without that file: PNG, or, where the names in ``meta_info.txt`` end in ``.raw``,
        uncompressed in bands of ``ROWS_PER_BAND``.

    Raises:
        InputError: The folder is missing or is no LMDB, or ``storage.json`` is not one that this version reads.
    """
    file = path / STORAGE_FILE
    if not file.is_file():
        raw = _meta_name(_meta_lines(path)[0]).endswith(f".{RAW_SUFFIX}")
        return Storage("uncompressed" if raw else "png")
    try:
        content = json.loads(file.read_text())
        storage = Storage(content["storage"], content.get("blur"))
        if storage.storage == "uncompressed":
            checksums = bool(content.get("checksums", False))
            storage = replace(storage, rows_per_band=int(content["rows_per_band"]), checksums=checksums)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} cannot be read: recreate {path.name} with `macr prepare`") from error
    if storage.storage not in get_args(Encoding):
        raise InputError(f"{file} names the storage '{storage.storage}': recreate {path.name} with this version")
    if storage.rows_per_band < 1:
        raise InputError(f"{file} has bands of {storage.rows_per_band} rows: recreate {path.name} with `macr prepare`")
    return storage


def _meta_name(line: str) -> str:
    """Name of a picture in its line, which other programs may end with the name."""
    match = META_LINE.fullmatch(line)
    return match["name"] if match else line.split(" ")[0]


def _meta_key(name: str) -> str:
    """Key of a picture: its name in ``meta_info.txt`` without the extension.

    Raises:
        InputError: If a file of that name would lie outside the folder that it is written to.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"the LMDB has the key '{name}', which leads out of every folder: write the LMDB anew")
    return name.removesuffix(f".{RAW_SUFFIX}") if name.endswith(f".{RAW_SUFFIX}") else picture_key(name)


def _meta_lines(path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: check the path, or write the LMDB first")
    if not (path / DATA_FILE).is_file():
        raise InputError(f"{path} is not an LMDB: it has no {DATA_FILE}")
    meta_info = path / META_INFO
    if not meta_info.is_file():
        raise InputError(
            f"{meta_info} is missing: recreate {path.name} with `macr prepare`, `macr synthesize` or BasicSR's "
            "make_lmdb_from_imgs, which write it"
        )
    lines = [line for line in meta_info.read_text().splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{meta_info} lists no pictures: recreate {path.name}")
    return lines
