"""Picture files of 8-bit colour: read, decode, encode and check them."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

from macr_plugin.errors import InputError
from macr_plugin.filesystem.atomic import atomic_write

#: Files that count as pictures, which OpenCV decodes and BasicSR therefore reads.
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND"
#: As BasicSR's LMDB writer: zlib's own 6 takes the time of 3.5 for files that are a seventh smaller.
PNG_COMPRESSION = 1


def read_picture(path: Path) -> np.ndarray:
    """Read an 8-bit colour picture.

    Args:
        path: The file.

    Returns:
        uint8 array of shape (height, width, 3), BGR, 0 to 255.

    Raises:
        InputError: The file is missing, is not a picture, or is not 8-bit colour.
    """
    return decode_picture(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def check_png(data: bytes, source: Path | str) -> None:
    """Refuse a PNG file that is cut off or damaged; other formats pass.

    Decoders differ in what they make of such a file, and print lines of their own.

    Args:
        data: A whole picture file.
        source: What the message names: the file or key.

    Raises:
        InputError: The file does not go on to its end, or a checksum is wrong.
    """
    if not data.startswith(PNG_SIGNATURE):
        return
    position, kind = len(PNG_SIGNATURE), b""
    while kind != PNG_END:
        # A chunk: four bytes of length, four of kind, the content, and a checksum of kind and content.
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        kind = data[position + 4 : position + 8]
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise InputError(f"{source} is cut off or damaged: replace it or remove the pair")
        position = end + 4


def decode_picture(data: bytes, source: Path | str) -> np.ndarray:
    """Decode an 8-bit colour picture.

    Args:
        data: A whole picture file.
        source: What the message names: the file or LMDB key.

    Returns:
        uint8 array of shape (height, width, 3), BGR, 0 to 255.

    Raises:
        InputError: The bytes are no picture, or the picture is not 8-bit colour.
    """
    # OpenCV raises on an empty buffer and returns None on any other that it cannot decode.
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if picture is None:
        raise InputError(f"{source} is not a readable picture: replace it or remove the pair")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"{source} is {picture.dtype} with shape {picture.shape}: convert it to 8-bit colour")
    return picture


def write_png(picture: np.ndarray, path: Path, remedy: str) -> None:
    """Write a picture as a PNG file, atomically.

    Args:
        picture: uint8 array of shape (height, width, 3), BGR, 0 to 255.
        path: The file; folders above it are made.
        remedy: What the message advises when that fails.

    Raises:
        DiskError: It cannot be written.
    """
    with atomic_write(path, remedy) as file:
        file.write(encode_png(picture))


def describe_size(picture: np.ndarray) -> str:
    """Write the size of a picture for a message.

    Args:
        picture: Array of shape (height, width, ...), of any dtype.

    Returns:
        Width and height in pixels, such as ``1280x720``.
    """
    height, width = picture.shape[:2]
    return f"{width}x{height}"


def encode_png(picture: np.ndarray) -> bytes:
    """Encode a picture as BasicSR's LMDB writer does, with fast PNG compression.

    Args:
        picture: uint8 array of shape (height, width, 3), BGR.

    Returns:
        A whole PNG file.
    """
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()
