"""Writes pictures into an LMDB, in the format of :mod:`macr_plugin.data.storage.lmdb_format`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import lmdb

from macr_plugin.data.pairs import check_key
from macr_plugin.data.picture_files import decode_picture, read_bytes
from macr_plugin.data.storage.lmdb_format import META_INFO, Storage, meta_line, picture_entries, write_storage
from macr_plugin.errors import InputError
from macr_plugin.filesystem.staging import disk_errors, staged

INITIAL_MAP_BYTES = 64 * 1024**2
# LMDB reports a full disk as an input/output error where the last write fitted in part.
LMDB_DISK_ERRORS = (lmdb.Error,)


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
    with staged(target) as (partial,), disk_errors(target.parent, also=LMDB_DISK_ERRORS):
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


def _store(database: lmdb.Environment, key: str, source: Path | bytes, storage: Storage) -> str:
    name = source if isinstance(source, Path) else f"key '{key}'"
    check_key(key, name)
    data = read_bytes(source) if isinstance(source, Path) else source
    picture = decode_picture(data, name)
    if not put_all(database, picture_entries(key, picture, storage, data), overwrite=False):
        raise InputError(f"{name}: the key '{key}' comes twice; rename one of the pictures")
    height, width = picture.shape[:2]
    return meta_line(key, (height, width), storage.storage)
