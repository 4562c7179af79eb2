"""The photographs that a dataset draws from: a folder or an LMDB."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from macr_plugin.data.datasets.dataset_options import option_name, require_option
from macr_plugin.data.storage.lmdb_format import read_meta_info
from macr_plugin.data.storage.readers import ENCODINGS, CachedReader, FileReader, Reader, open_lmdb
from macr_plugin.data.synthesis.source_photos import list_photos, read_photo
from macr_plugin.errors import InputError


def open_photos(opt: Mapping[str, Any]) -> tuple[list[str], Reader]:
    """Open the photographs that the options of a dataset name.

    Args:
        opt: ``dataroot_gt``, the folder, searched with all folders in it, or the LMDB; ``io_backend``, whose ``type``
            is ``disk`` (the default), ``lmdb`` or ``uncompressed_lmdb``; ``cache``, to keep decoded photographs in
            memory.

    Returns:
        The name of each photograph, and what reads one by its name: uint8 of shape (height, width, 3), RGB.

    Raises:
        InputError: An option is missing or unusable, or there are no photographs.
    """
    root = Path(require_option(opt, "dataroot_gt")).expanduser()
    backend = (opt.get("io_backend") or {}).get("type", "disk")
    reader: Reader
    if backend == "disk":
        files = {file.relative_to(root).as_posix(): file for file in list_photos(root, recursive=True)}
        keys, reader = list(files), FileReader(files, read_photo)
    elif backend in ENCODINGS:
        keys, reader = read_meta_info(root), open_lmdb(root, backend, bool(opt["io_backend"].get("verify")))
    else:
        known = " or ".join(sorted(ENCODINGS))
        raise InputError(f"{option_name(opt, 'io_backend')} has type {backend}: choose disk, {known}")
    return keys, CachedReader(reader) if opt.get("cache") else reader
