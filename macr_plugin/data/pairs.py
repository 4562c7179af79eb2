"""Pairs of a blurred and a sharp picture: find them by the names of their files, and check pairs and keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from macr_plugin.data.picture_files import PICTURE_SUFFIXES, describe_size, read_picture
from macr_plugin.errors import InputError
from macr_plugin.filesystem.walk import walk_files

# LMDB allows 511. The rest is left to what tells the crops and the bands of a picture apart.
MAX_KEY_BYTES = 506


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
    return pair_names(blur_root, picture_names(blur_root), sharp_root, picture_names(sharp_root))


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
        folder: Where to look.

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
        pairs: All pairs that go into one LMDB.

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
        blur: The blurred picture, shape (height, width, 3), uint8.
        sharp: The sharp picture, likewise.

    Raises:
        InputError: Their sizes differ.
    """
    if blur.shape != sharp.shape:
        raise InputError(
            f"{pair.blur} is {describe_size(blur)} and {pair.sharp} is {describe_size(sharp)}: "
            "the two pictures of a pair must have one size"
        )


def evenly_spaced(count: int, number: int) -> list[int]:
    """Choose some of many pairs or frames, evenly spaced over all.

    Args:
        count: How many there are.
        number: How many are wanted; all of them if there are no more.

    Returns:
        Their numbers, increasing, the first always 0.
    """
    number = min(number, count)
    return [position * count // number for position in range(number)]


def pair_names(blur_folder: Path, blur: set[Path], sharp_folder: Path, sharp: set[Path]) -> list[ImagePair]:
    """Pair pictures of two folders by their names.

    Args:
        blur_folder: Folder of the blurred pictures.
        blur: Their names relative to it.
        sharp_folder: Folder of the sharp pictures.
        sharp: Their names relative to it.

    Returns:
        The pairs, sorted by key.

    Raises:
        InputError: As :func:`pair_folders`.
    """
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
