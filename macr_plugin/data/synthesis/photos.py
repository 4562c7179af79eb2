"""Folders and LMDBs of sharp photographs, from which blurred ones are rendered."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from macr_plugin.data.dataset_options import option_name, require_option
from macr_plugin.data.drawn_index import DrawnIndex
from macr_plugin.data.gopro import PICTURE_SUFFIXES, read_bytes
from macr_plugin.data.lmdb import read_meta_info
from macr_plugin.data.readers import ENCODINGS, CachedReader, FileReader, Reader, open_lmdb
from macr_plugin.errors import InputError
from macr_plugin.files import walk_files


def list_photos(folder: Path, recursive: bool) -> list[Path]:
    """List the photographs of a folder.

    Args:
        folder: The folder; hidden files are left out.
        recursive: Whether to search the folders in it as well.

    Returns:
        The files, sorted.

    Raises:
        InputError: The folder is missing or holds no photographs.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder of the photographs")
    found = walk_files(folder) if recursive else (file for file in folder.iterdir() if file.is_file())
    files = [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")]
    if not files:
        raise InputError(f"{folder} holds no photographs: expected {', '.join(sorted(PICTURE_SUFFIXES))}")
    return sorted(files)


def read_photo(path: Path) -> np.ndarray:
    """Read a photograph as colour in 8 bits, upright if the camera noted how it was held.

    Args:
        path: The file.

    Returns:
        uint8 array of shape (height, width, 3), BGR, sRGB-encoded.

    Raises:
        InputError: The file cannot be read or decoded.
    """
    data = np.frombuffer(read_bytes(path), np.uint8)
    # OpenCV raises on an empty buffer and returns None on any other that it cannot decode.
    photo = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if photo is None:
        raise InputError(f"{path} is not a readable picture: replace or remove it")
    return photo


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


def sample_generator(seed: int, index: int, train: bool) -> np.random.Generator:
    """Make the random generator of one sample.

    Args:
        seed: Seed of the whole dataset.
        index: Number of the sample.
        train: Draw anew in every epoch; else a number gives always the same draws.
    """
    if not train:
        return np.random.default_rng([seed, index])
    if isinstance(index, DrawnIndex):
        return np.random.default_rng([seed, index.epoch, index.draw])
    # In a program that hands over no draw, the generator that BasicSR's own datasets draw from.
    return np.random.default_rng(random.getrandbits(64))
