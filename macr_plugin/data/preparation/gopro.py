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
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from macr_plugin.data.pairs import ImagePair, pair_folders, pair_names, require_folder
from macr_plugin.data.picture_files import PICTURE_SUFFIXES
from macr_plugin.errors import InputError

# GoPro numbers its frames with six digits; flattened copies join scene and frame by either sign.
FLAT_NAME = re.compile(r"(?P<scene>.+)[-_](?P<frame>\d{6})")


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
        InputError: As :func:`find_pairs` and :func:`pair_folders`, or the layout lacks that blurred version.
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


def _pair_scene(scene: Path, blur: str) -> list[ImagePair]:
    blur_folder, sharp_folder = scene / blur, scene / "sharp"
    for folder in (blur_folder, sharp_folder):
        if not folder.is_dir():
            raise InputError(f"{scene} has no folder {folder.name}: a scene needs {blur} and sharp")
    pairs = pair_names(blur_folder, _frame_names(blur_folder), sharp_folder, _frame_names(sharp_folder))
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
