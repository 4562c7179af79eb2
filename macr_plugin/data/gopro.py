"""Folders of blurred and sharp pictures: find them, pair them, check them.

A split of the GoPro data set is a folder of scenes, ``<split>/<scene>/<blur>/<frame>.png`` and
``<split>/<scene>/sharp/<frame>.png``. There are two blurred versions: ``blur`` is the mean of the frames as they are
stored, ``blur_gamma`` the mean of the same frames in linear light. Frame names repeat between scenes, so a pair is
known by ``<scene>/<frame>``.

Flattened copies of it are in circulation: ``<split>/{blur,blur_gamma,sharp}/<scene>_<frame>.png`` and
``<split>/{input,target}/<scene>-<frame>.png``; the latter do not say which blurred version they hold.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from macr_plugin.errors import InputError
from macr_plugin.files import walk_files

#: Files that count as pictures, which OpenCV decodes and BasicSR therefore reads.
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND"
# LMDB allows 511. The rest is left to what tells the crops and the bands of a picture apart.
MAX_KEY_BYTES = 506
# GoPro numbers its frames with six digits; flattened copies join scene and frame by either sign.
FLAT_NAME = re.compile(r"(?P<scene>.+)[-_](?P<frame>\d{6})")


@dataclass(frozen=True)
class ImagePair:
    """One blurred picture and its sharp partner.

    Attributes:
        key: Name of the pair without extension, ``scene/frame`` in the GoPro layout.
        blur: File of the blurred picture.
        sharp: File of the sharp picture.
    """

    key: str
    blur: Path
    sharp: Path


def find_split(split_root: Path, blur: str = "blur") -> tuple[list[ImagePair], str | None]:
    """List the pairs of one split of GoPro in any of the layouts in circulation.

    In a flattened layout, names that all end in a six-digit frame number after ``-`` or ``_`` become keys
    ``scene/frame``; if one name does not, or two names would give one key, every name is its own key.

    Args:
        split_root: Folder of the split, such as ``GOPRO_Large/train``.
        blur: Which blurred version, ``blur`` or ``blur_gamma``.

    Returns:
        The pairs, sorted by key, and the blurred version, None where the layout does not say it.

    Raises:
        InputError: As :func:`find_pairs` and :func:`pair_folders`, or the layout has not that blurred version.
    """
    require_folder(split_root)
    if (split_root / "sharp").is_dir():
        return _split_keys(pair_folders(split_root / blur, split_root / "sharp")), blur
    if (split_root / "input").is_dir() or (split_root / "target").is_dir():
        if blur != "blur":
            raise InputError(f"{split_root} holds input and target, not {blur}: get the layout of GOPRO_Large")
        return _split_keys(pair_folders(split_root / "input", split_root / "target")), None
    return find_pairs(split_root, blur), blur


def find_pairs(split_root: Path, blur: str = "blur") -> list[ImagePair]:
    """List the pairs of one split in the GoPro layout.

    Args:
        split_root: Folder of the scenes, such as ``GOPRO_Large/train``.
        blur: Which blurred version: the folder name ``blur`` or ``blur_gamma``.

    Returns:
        The pairs, sorted by key ``scene/frame``.

    Raises:
        InputError: The folder is missing or holds no scene, a scene lacks one of its two folders or has no pictures, a
            picture has no partner, or two pictures of one folder differ in their extension only.
    """
    require_folder(split_root)
    scenes = sorted(entry for entry in split_root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not scenes:
        raise InputError(f"{split_root} holds no scenes: expected {split_root}/<scene>/{blur} and .../sharp")
    pairs = [pair for scene in scenes for pair in _pair_scene(scene, blur)]
    return sorted(pairs, key=lambda pair: pair.key)


def pair_folders(blur_root: Path, sharp_root: Path) -> list[ImagePair]:
    """Pair the pictures of two folders by their names relative to each folder, at any depth.

    Args:
        blur_root: Folder of the blurred pictures.
        sharp_root: Folder of the sharp pictures.

    Returns:
        The pairs, sorted by key: the relative name without extension, parts joined by ``/``.

    Raises:
        InputError: A folder is missing or holds no pictures, a picture has no partner, or two pictures of one folder
            differ in their extension only.
    """
    return _pair_names(blur_root, picture_names(blur_root), sharp_root, picture_names(sharp_root))


def picture_key(name: str | Path) -> str:
    """Name a picture without the extension of its file.

    Args:
        name: Path of a picture file relative to its data set. A name without the extension of a picture is left as it
            is: what follows a dot in it belongs to the name.

    Returns:
        The name, parts joined by ``/``: ``a/1.v2`` for ``a/1.v2.png``.
    """
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() in PICTURE_SUFFIXES else path).as_posix()


def storable_key(key: str) -> str:
    """Write a key so that BasicSR finds it in an LMDB, where it takes what stands before the first dot.

    Args:
        key: Key of a picture.

    Returns:
        The key with ``_`` for every dot: ``1fromGOPR1096_MP4`` for HIDE's ``1fromGOPR1096.MP4``.
    """
    return key.replace(".", "_")


def require_folder(folder: Path) -> None:
    """Refuse a path that is not a folder.

    Args:
        folder: The path.

    Raises:
        InputError: It is not there, or is not a folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: check the path")


def picture_names(folder: Path) -> set[Path]:
    """Find the pictures of a folder, at any depth.

    Args:
        folder: The folder.

    Returns:
        Their names relative to the folder.

    Raises:
        InputError: The folder is not there.
    """
    require_folder(folder)
    return {file.relative_to(folder) for file in walk_files(folder) if file.suffix.lower() in PICTURE_SUFFIXES}


def check_keys(pairs: Iterable[ImagePair]) -> None:
    """Refuse pairs that could not be told apart or read back from an LMDB.

    Args:
        pairs: The pairs.

    Raises:
        InputError: Two pairs have one key, or as :func:`check_key`.
    """
    seen: dict[str, Path] = {}
    for pair in pairs:
        check_key(pair.key, pair.blur)
        if pair.key in seen:
            raise InputError(f"{seen[pair.key]} and {pair.blur} both get the key '{pair.key}': rename one of them")
        seen[pair.key] = pair.blur


def check_key(key: str, source: Path | str) -> None:
    """Refuse a key that BasicSR could not read back from an LMDB.

    Args:
        key: Name of a picture without extension.
        source: What the message names: a file or folder.

    Raises:
        InputError: The key has a dot, where BasicSR cuts it off, or characters outside ASCII, or is empty or too
            long for LMDB.
    """
    if "." in key or not key.isascii():
        raise InputError(f"{source}: BasicSR cannot keep the name '{key}'; rename it without dots and accents")
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise InputError(f"{source}: the key '{key}' must have 1 to {MAX_KEY_BYTES} characters; rename the picture")


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


def read_pair(pair: ImagePair) -> tuple[np.ndarray, np.ndarray]:
    """Read both pictures of a pair and check that they fit.

    Args:
        pair: The two files.

    Returns:
        The blurred and the sharp picture: uint8 arrays of one shape (height, width, 3), BGR, 0 to 255.

    Raises:
        InputError: A picture cannot be read or is not 8-bit colour, or their sizes differ.
    """
    blur, sharp = read_picture(pair.blur), read_picture(pair.sharp)
    check_sizes(pair, blur, sharp)
    return blur, sharp


def check_sizes(pair: ImagePair, blur: np.ndarray, sharp: np.ndarray) -> None:
    """Refuse a pair of two sizes.

    Args:
        pair: The two files.
        blur: The blurred picture, shape (height, width, 3).
        sharp: The sharp picture.

    Raises:
        InputError: Their sizes differ.
    """
    if blur.shape != sharp.shape:
        raise InputError(
            f"{pair.blur} is {describe_size(blur)} and {pair.sharp} is {describe_size(sharp)}: "
            "the two pictures of a pair must have one size"
        )


def describe_size(picture: np.ndarray) -> str:
    """Write the size of a picture for a message.

    Args:
        picture: Array of shape (height, width, ...).

    Returns:
        Width and height in pixels, such as ``1280x720``.
    """
    height, width = picture.shape[:2]
    return f"{width}x{height}"


def _pair_scene(scene: Path, blur: str) -> list[ImagePair]:
    blur_folder, sharp_folder = scene / blur, scene / "sharp"
    for folder in (blur_folder, sharp_folder):
        if not folder.is_dir():
            raise InputError(f"{scene} has no folder {folder.name}: a scene needs {blur} and sharp")
    pairs = _pair_names(blur_folder, _frame_names(blur_folder), sharp_folder, _frame_names(sharp_folder))
    return [replace(pair, key=f"{scene.name}/{pair.key}") for pair in pairs]


def _split_keys(pairs: list[ImagePair]) -> list[ImagePair]:
    matches = [FLAT_NAME.fullmatch(pair.key) for pair in pairs]
    keys = [f"{match['scene']}/{match['frame']}" for match in matches if match]
    if len(set(keys)) != len(pairs):
        return pairs
    renamed = [replace(pair, key=key) for pair, key in zip(pairs, keys, strict=True)]
    return sorted(renamed, key=lambda pair: pair.key)


def _frame_names(folder: Path) -> set[Path]:
    return {Path(file.name) for file in _visible_files(folder.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES}


def _visible_files(candidates: Iterable[Path]) -> list[Path]:
    # Copies from macOS carry files like ._000001.png, which are not pictures.
    return [file for file in candidates if not file.name.startswith(".") and file.is_file()]


def _pair_names(blur_folder: Path, blur: set[Path], sharp_folder: Path, sharp: set[Path]) -> list[ImagePair]:
    pairs: dict[str, ImagePair] = {}
    for name in _match_names(blur_folder, blur, sharp_folder, sharp):
        key = picture_key(name)
        if key in pairs:
            other = pairs[key].blur.name
            raise InputError(f"{blur_folder / name} and {other} differ in their extension only: rename one of them")
        pairs[key] = ImagePair(key, blur_folder / name, sharp_folder / name)
    return [pairs[key] for key in sorted(pairs)]


def _match_names(blur_folder: Path, blur: set[Path], sharp_folder: Path, sharp: set[Path]) -> list[Path]:
    for folder, names in ((blur_folder, blur), (sharp_folder, sharp)):
        if not names:
            raise InputError(f"{folder} holds no pictures: fill it or remove it")
    unpaired = sorted(blur ^ sharp)
    if unpaired:
        here, there = (blur_folder, sharp_folder) if unpaired[0] in blur else (sharp_folder, blur_folder)
        raise InputError(
            f"{here / unpaired[0]} has no partner in {there} ({blur_folder.name}: {len(blur)} pictures, "
            f"{sharp_folder.name}: {len(sharp)}): add the missing picture or remove this one"
        )
    return sorted(blur)
