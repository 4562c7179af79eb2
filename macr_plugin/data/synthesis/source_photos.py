"""Folders and LMDBs of sharp photographs, from which blurred ones are rendered."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from macr_plugin.data.picture_files import PICTURE_SUFFIXES, read_bytes
from macr_plugin.errors import InputError
from macr_plugin.filesystem.walk import walk_files


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
