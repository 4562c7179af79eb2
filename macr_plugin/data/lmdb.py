"""Write pictures into LMDBs that BasicSR reads, and read their lists of keys.

An LMDB of pictures is a folder with ``data.mdb`` (key -> bytes of a PNG file) and ``meta_info.txt``, one line a
picture: ``scene/frame.png (height,width,channels) 1``. BasicSR takes what stands before the first dot as the key.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import lmdb
import numpy as np

from macr_plugin.data.gopro import check_key, decode_picture, read_bytes
from macr_plugin.errors import InputError

META_INFO = "meta_info.txt"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_COMPRESSION = 1
INITIAL_MAP_BYTES = 64 * 1024**2
MAX_KEY_BYTES = 511
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


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
        InputError: The parent folder cannot be written to, or the disk is full.
    """
    parent = targets[0].parent
    staging = parent / f".{targets[0].name}.macr-partial"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write into {parent}: {error.strerror}") from error
    try:
        partial = tuple(staging / target.name for target in targets)
        yield partial
        _flush(staging)
        for source, target in zip(partial, targets, strict=True):
            if target.exists():
                # Aside rather than deleted in place: a kill while deleting would leave half a data set.
                target.rename(staging / f"replaced {target.name}")
            source.rename(target)
        _flush_file(parent)
    except (OSError, lmdb.Error) as error:
        # LMDB reports a full disk as an input/output error where the last write fitted in part.
        if isinstance(error, OSError) and error.errno not in DISK_FULL:
            raise
        raise InputError(f"cannot write into {parent} ({error}): free some space or choose another folder") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def encode_png(picture: np.ndarray) -> bytes:
    """Encode a picture as BasicSR's LMDB writer does, with fast PNG compression.

    Args:
        picture: uint8 array of shape (height, width, 3), BGR.

    Returns:
        A whole PNG file.
    """
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()


def write_image_lmdb(target: Path, items: Iterable[tuple[str, Path | bytes]]) -> int:
    """Write pictures into an LMDB that BasicSR reads.

    PNG files are stored byte for byte; other formats are stored as PNG. The same items give the same bytes. The LMDB
    appears under its name only when complete.

    Args:
        target: Folder to write, with a name that ends in ``.lmdb``.
        items: Key without extension, ``scene/frame``, and picture: a file, or the bytes of one. 8-bit colour.

    Returns:
        Number of pictures written.

    Raises:
        InputError: The target exists or is not named ``.lmdb``, there are no items, a key is unusable or comes twice, a
            picture cannot be decoded or is not 8-bit colour, or the disk is full.
    """
    if target.suffix != ".lmdb":
        raise InputError(f"{target}: BasicSR reads LMDB folders by names that end in .lmdb; add it")
    if target.exists():
        raise InputError(f"{target} exists: remove it or choose another name")
    with staged(target) as (partial,):
        partial.mkdir()
        # No lock file: the folder is ours alone until it is complete, and BasicSR reads without locks.
        with lmdb.open(str(partial), map_size=INITIAL_MAP_BYTES, lock=False, sync=False, metasync=False) as database:
            lines = [_store(database, key, source) for key, source in items]
            database.sync(True)
        if not lines:
            raise InputError(f"{target}: there are no pictures to write")
        (partial / META_INFO).write_text("".join(lines))
    return len(lines)


def read_meta_info(path: Path) -> list[str]:
    """Read the keys of an LMDB from its ``meta_info.txt``.

    Args:
        path: The LMDB folder.

    Returns:
        Keys in the order of the file, cut at the first dot as BasicSR does.

    Raises:
        InputError: The folder is missing, is no LMDB, or has no list of keys or an empty one.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: check the path, or write the LMDB first")
    if not (path / "data.mdb").is_file():
        raise InputError(f"{path} is not an LMDB: it has no data.mdb")
    meta_info = path / META_INFO
    if not meta_info.is_file():
        raise InputError(
            f"{meta_info} is missing: recreate {path.name} with `macr synthesize` or BasicSR's make_lmdb_from_imgs, "
            "which write it"
        )
    keys = [line.split(".")[0] for line in meta_info.read_text().splitlines() if line.strip()]
    if not keys:
        raise InputError(f"{meta_info} lists no pictures: recreate {path.name}")
    return keys


def _store(database: lmdb.Environment, key: str, source: Path | bytes) -> str:
    name = source if isinstance(source, Path) else f"key '{key}'"
    check_key(key, name)
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise InputError(f"{name}: the key '{key}' must have 1 to {MAX_KEY_BYTES} characters; rename the picture")
    data = read_bytes(source) if isinstance(source, Path) else source
    picture = decode_picture(data, name)
    if not data.startswith(PNG_SIGNATURE):
        data = encode_png(picture)
    if not _put(database, key.encode("ascii"), data):
        raise InputError(f"{name}: the key '{key}' comes twice; rename one of the pictures")
    height, width, channels = picture.shape
    return f"{key}.png ({height},{width},{channels}) {PNG_COMPRESSION}\n"


def _put(database: lmdb.Environment, key: bytes, data: bytes) -> bool:
    while True:
        try:
            with database.begin(write=True) as transaction:
                return transaction.put(key, data, overwrite=False)
        except lmdb.MapFullError:
            database.set_mapsize(2 * database.info()["map_size"])


def _flush(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        _flush_file(path)


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
