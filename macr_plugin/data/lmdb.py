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
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import lmdb
import numpy as np

from macr_plugin.data.gopro import PNG_SIGNATURE, check_key, decode_picture, picture_key, read_bytes
from macr_plugin.errors import DISK_ERRORS, DiskError, InputError
from macr_plugin.files import FileLock, flush_to_disk

Encoding = Literal["png", "uncompressed"]

DATA_FILE = "data.mdb"
META_INFO = "meta_info.txt"
STORAGE_FILE = "storage.json"
META_LINE = re.compile(r"(?P<name>.+) \((?P<height>\d+),(?P<width>\d+),\d+\) \w+")
PNG_COMPRESSION = 1
RAW_SUFFIX = "raw"
# Few reads for a crop, and few rows in them that it does not want.
ROWS_PER_BAND = 32
INITIAL_MAP_BYTES = 64 * 1024**2


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


@contextmanager
def staged(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Write files or folders beside their final places and move them there only when all are complete.

    The body writes to the yielded paths. They lie in a hidden folder beside the targets, are flushed to the disk and
    renamed to the targets, in order, when the body ends; what stood there is replaced. If the body raises, the hidden
    folder is removed and the targets stay as they were. If the process is killed, the next run removes what it left.

    Args:
        targets: Final paths; all have one parent folder, which is made if need be.

    Yields:
        One path for each target, not existing yet.

    Raises:
        InputError: The parent folder cannot be written to, the disk is full, or another process writes these targets.
    """
    parent = targets[0].parent
    staging = staging_folder(targets[0])
    make_folder(parent)
    with staging_lock(staging), disk_errors(parent):
        try:
            shutil.rmtree(staging, ignore_errors=True)
            make_folder(staging)
            partial = tuple(staging / target.name for target in targets)
            yield partial
            flush(staging)
            publish(partial, targets, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def staging_folder(target: Path) -> Path:
    """Name the hidden folder beside a target in which it is written until it is complete.

    Args:
        target: Final path.

    Returns:
        Path of the folder.
    """
    return target.parent / f".{target.name}.macr-partial"


def staging_lock(staging: Path) -> FileLock:
    """Keep other processes from writing in a hidden folder.

    Args:
        staging: The folder.

    Returns:
        The lock, held until it is released.

    Raises:
        InputError: Another process holds it.
    """
    return FileLock(lock_file(staging), f"another process is writing into {staging}")


def lock_file(staging: Path) -> Path:
    """Name the file beside a hidden folder that a process holds while it writes there.

    Args:
        staging: The folder.
    """
    return staging.with_name(f"{staging.name}.lock")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Args:
        folder: Its path. It may be there already.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"cannot write into {folder.parent}: {error.strerror}") from error


@contextmanager
def disk_errors(folder: Path, remedy: str = "free some space or choose another folder") -> Iterator[None]:
    """Say in one line that the disk is full or read-only.

    Args:
        folder: What the message names: where the body writes.
        remedy: What the message advises.

    Raises:
        DiskError: In place of what the system or LMDB raises on such a disk.
    """
    try:
        yield
    except (OSError, lmdb.Error) as error:
        # LMDB reports a full disk as an input/output error where the last write fitted in part.
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        raise DiskError(f"cannot write into {folder} ({error}): {remedy}") from error


def publish(partial: Sequence[Path], targets: Sequence[Path], staging: Path) -> None:
    """Move complete files or folders to their final places, in order; what stood there is replaced.

    Args:
        partial: Where they lie, in the staging folder, flushed to the disk.
        targets: Final path of each.
        staging: The staging folder.
    """
    for source, target in zip(partial, targets, strict=True):
        if target.exists():
            # Aside rather than deleted in place: a kill while deleting would leave half a data set.
            target.rename(staging / f"replaced {target.name}")
        source.rename(target)
    flush_to_disk(targets[0].parent)


def flush(folder: Path) -> None:
    """Force a folder and all in it to the disk.

    Args:
        folder: The folder.
    """
    for path in (folder, *folder.rglob("*")):
        flush_to_disk(path)


def encode_png(picture: np.ndarray) -> bytes:
    """Encode a picture as BasicSR's LMDB writer does, with fast PNG compression.

    Args:
        picture: uint8 array of shape (height, width, 3), BGR.

    Returns:
        A whole PNG file.
    """
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()


def picture_entries(key: str, picture: np.ndarray, storage: Storage, file: bytes = b"") -> list[tuple[str, bytes]]:
    """Turn a picture into what an LMDB holds for it.

    Args:
        key: Its key.
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
        key: Its key.
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


def write_image_lmdb(target: Path, items: Iterable[tuple[str, Path | bytes]], storage: Storage | None = None) -> int:
    """Write pictures into an LMDB.

    In a ``png`` LMDB, PNG files are stored byte for byte and other formats as PNG. The same items give the same bytes.
    The LMDB appears under its name only when complete.

    Args:
        target: Folder to write, with a name that ends in ``.lmdb``.
        items: Key without extension, ``scene/frame``, and picture: a file, or the bytes of one. 8-bit colour.
        storage: How to store them. Default: PNG, which BasicSR reads.

    Returns:
        Number of pictures written.

    Raises:
        InputError: The target exists or is not named ``.lmdb``, there are no items, a key is unusable or comes twice, a
            picture cannot be decoded or is not 8-bit colour, or the disk is full.
    """
    storage = storage or Storage()
    if target.suffix != ".lmdb":
        raise InputError(f"{target}: BasicSR reads LMDB folders by names that end in .lmdb; add it")
    if target.exists():
        raise InputError(f"{target} exists: remove it or choose another name")
    with staged(target) as (partial,):
        partial.mkdir()
        # No lock file: the folder is ours alone until it is complete, and BasicSR reads without locks.
        with lmdb.open(str(partial), map_size=INITIAL_MAP_BYTES, lock=False, sync=False, metasync=False) as database:
            lines = [_store(database, key, source, storage) for key, source in items]
            database.sync(True)
        if not lines:
            raise InputError(f"{target}: there are no pictures to write")
        (partial / META_INFO).write_text("".join(f"{line}\n" for line in lines))
        write_storage(partial, storage)
    return len(lines)


def put_all(database: lmdb.Environment, items: Sequence[tuple[str, bytes]], overwrite: bool) -> bool:
    """Write keys and values in one transaction, enlarging the map of the database as needed.

    Args:
        database: An environment opened for writing.
        items: ASCII keys and values.
        overwrite: Whether a key that is there gets the new value.

    Returns:
        Whether all were written: False if a key was there and ``overwrite`` is not given.
    """
    while True:
        try:
            with database.begin(write=True) as transaction:
                return all(transaction.put(key.encode("ascii"), value, overwrite=overwrite) for key, value in items)
        except lmdb.MapFullError:
            database.set_mapsize(2 * database.info()["map_size"])


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


def _store(database: lmdb.Environment, key: str, source: Path | bytes, storage: Storage) -> str:
    name = source if isinstance(source, Path) else f"key '{key}'"
    check_key(key, name)
    data = read_bytes(source) if isinstance(source, Path) else source
    picture = decode_picture(data, name)
    if not put_all(database, picture_entries(key, picture, storage, data), overwrite=False):
        raise InputError(f"{name}: the key '{key}' comes twice; rename one of the pictures")
    height, width = picture.shape[:2]
    return meta_line(key, (height, width), storage.storage)
