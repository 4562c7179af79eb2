"""HIDE and RealBlur, on which networks trained on GoPro are tested too: find the pairs, as published or flattened.

The flattened form, ``input`` and ``target`` with equal names, is how MPRNet and Restormer pass both sets on.
"""

from __future__ import annotations

from pathlib import Path

from macr_plugin.data.pairs import ImagePair, pair_folders, picture_key, picture_names, require_folder
from macr_plugin.errors import InputError


def find_hide_pairs(root: Path) -> list[ImagePair]:
    """List the test pairs of HIDE.

    Args:
        root: Folder with ``test/{test-close-ups,test-long-shot}/<picture>.png`` and ``GT/<picture>.png``, as published,
            or with ``input`` and ``target``, flattened.

    Returns:
        The pairs, sorted by key: ``test-close-ups/<picture>``, or ``<picture>`` where flattened.

    Raises:
        InputError: The folder has neither layout, or a picture has no partner.
    """
    test, sharp_root = root / "test", root / "GT"
    if not test.is_dir() or not sharp_root.is_dir():
        return _find_flattened(root, f"{test.name} and {sharp_root.name}")
    pairs = []
    for name in sorted(picture_names(test)):
        sharp = sharp_root / name.name
        if not sharp.is_file():
            raise InputError(f"{test / name} has no partner in {sharp_root}: add the missing picture or remove it")
        pairs.append(ImagePair(picture_key(name), test / name, sharp))
    if not pairs:
        raise InputError(f"{test} holds no pictures: fill it or remove it")
    return sorted(pairs, key=lambda pair: pair.key)


def find_realblur_pairs(root: Path, subset: str) -> list[ImagePair]:
    """List the test pairs of RealBlur.

    Args:
        root: Folder with ``RealBlur_<subset>_test_list.txt``, each line the sharp and the blurred file
            ``<folder>/<scene>/gt/gt_<frame>.png <folder>/<scene>/blur/blur_<frame>.png`` relative to this folder, as
            published, or a folder with ``input`` and ``target``, flattened, itself or its ``RealBlur_<subset>``.
        subset: ``J`` for the JPEG pictures of the camera, ``R`` for those from raw.

    Returns:
        The pairs, sorted by key: ``<scene>/<frame>``, or the name where flattened.

    Raises:
        InputError: The folder has neither layout, a line of the list does not name two files that are there, or two
            pictures have one key.
    """
    require_folder(root)
    listing = root / f"RealBlur_{subset}_test_list.txt"
    if not listing.is_file():
        nested = root / f"RealBlur_{subset}"
        return _find_flattened(nested if nested.is_dir() else root, listing.name)
    pairs = [_listed_pair(root, listing, line) for line in listing.read_text().splitlines() if line.strip()]
    if not pairs:
        raise InputError(f"{listing} lists no pictures: download RealBlur again")
    return sorted(pairs, key=lambda pair: pair.key)


def _find_flattened(root: Path, published: str) -> list[ImagePair]:
    require_folder(root)
    if not (root / "input").is_dir() and not (root / "target").is_dir():
        raise InputError(f"{root} has neither {published} nor input and target: check the path")
    return pair_folders(root / "input", root / "target")


def _listed_pair(root: Path, listing: Path, line: str) -> ImagePair:
    files = [root / name for name in line.split()]
    if len(files) != 2 or not all(file.is_file() for file in files):
        raise InputError(f"{listing}: the line '{line}' does not name two files in {root}: complete the download")
    sharp, blur = files
    return ImagePair(f"{blur.parent.parent.name}/{picture_key(blur.name).removeprefix('blur_')}", blur, sharp)
