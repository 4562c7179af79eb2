"""Turn downloaded data sets into LMDBs: GoPro for training and testing, HIDE and RealBlur for testing.

What lies in the output folder afterwards, blurred and sharp pictures under the same keys::

    {train,test}_{blur,sharp}.lmdb           whole frames, as PNG; stock BasicSR reads them
    train_{blur,sharp}_crops.lmdb            overlapping crops, as PNG; stock BasicSR reads them
    train_{blur,sharp}_uncompressed.lmdb     whole frames, raw: the largest, and by far the fastest to read

Testing always uses whole frames as PNG. The source is only read. A killed run is followed by one that goes on; a run
that finds its work done says so. Pictures are decoded and encoded in threads, which share memory with the one writer
and end with it: OpenCV, zlib and file reading let them run side by side, and nothing is left running after a kill.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from macr_plugin.data.pairs import ImagePair, check_keys, storable_key
from macr_plugin.data.preparation.gopro import find_split
from macr_plugin.data.preparation.hide_realblur import find_hide_pairs, find_realblur_pairs
from macr_plugin.data.storage.crop_grid import CropGrid
from macr_plugin.data.storage.lmdb_format import Storage
from macr_plugin.data.storage.resumable_lmdb import (
    Recipe,
    check_replaceable,
    encode_pair,
    is_written,
    pairs_written,
    remove_leftovers,
    write_pairs,
)
from macr_plugin.errors import InputError
from macr_plugin.filesystem.staging import make_folder

TrainStorage = Literal["png", "crops", "uncompressed"]

# Pairs of the data sets as published.
GOPRO_PAIRS = {"train": 2103, "test": 1111}
HIDE_PAIRS = 2025
REALBLUR_PAIRS = 980
NAME_ENDINGS: dict[TrainStorage, str] = {"png": "", "crops": "_crops", "uncompressed": "_uncompressed"}
MAX_DEFAULT_WORKERS = 8
# The size of the LMDBs is estimated from that many pairs.
SAMPLED_PAIRS = 8
# Pages of LMDB that hold keys.
DISK_MARGIN = 1.01
# LMDB keeps a large value on pages of its own, the first of which begins with a header.
PAGE_HEADER_BYTES = 16


@dataclass(frozen=True)
class Split:
    """Pairs that become two LMDBs.

    Attributes:
        name: What messages call it.
        pairs: The pairs, sorted by key.
        published: Number of pairs in the data set as published.
        targets: LMDB folders of the blurred and the sharp pictures.
        recipe: What the LMDBs are made from and how.
    """

    name: str
    pairs: Sequence[ImagePair]
    published: int
    targets: tuple[Path, Path]
    recipe: Recipe


def print_at_once(line: str) -> None:
    """Print a line that is seen at once even where the output goes to a file.

    Args:
        line: Without its line end.
    """
    print(line, flush=True)


def prepare_gopro(
    root: Path,
    out: Path,
    blur: str = "blur",
    storage: TrainStorage = "png",
    crops: CropGrid | None = None,
    workers: int | None = None,
    force: bool = False,
    report: Callable[[str], None] = print_at_once,
) -> None:
    """Turn the GoPro data set into LMDBs.

    Args:
        root: Folder with ``train`` and ``test``, or one of them, in any layout that
            :func:`macr_plugin.data.preparation.gopro.find_split` accepts.
        out: Folder of the LMDBs.
        blur: Which blurred version, ``blur`` or ``blur_gamma``.
        storage: How to store the training split: ``png`` or ``uncompressed`` whole frames, or PNG ``crops``.
        crops: Which crops; goes with ``storage`` ``crops``. Default: those of :class:`CropGrid`.
        workers: Number of threads that decode and encode. Default: the number of processors, at most 8.
        force: Replace LMDBs that were made from other pictures or settings, and make finished ones again.
        report: What is called with each line of news.

    Raises:
        InputError: The source is incomplete or unusable, the output holds something else, or the disk is or would be
            full.
    """
    if crops is not None and storage != "crops":
        raise InputError(f"--crop-size and --crop-step go with --storage crops, not {storage}: remove them")
    if storage == "crops" and crops is None:
        crops = CropGrid()
    names = [name for name in GOPRO_PAIRS if (root / name).is_dir()]
    if not names:
        raise InputError(f"{root} has neither train nor test: give the folder that holds them, such as GOPRO_Large")
    splits = []
    for name in names:
        pairs, found_blur = find_split(root / name, blur)
        kind, grid = (storage, crops) if name == "train" else ("png", None)
        splits.append(_plan(name, pairs, GOPRO_PAIRS[name], out, found_blur, kind, grid))
    _write(splits, out, workers, force, report)


def prepare_hide(
    root: Path,
    out: Path,
    workers: int | None = None,
    force: bool = False,
    report: Callable[[str], None] = print_at_once,
) -> None:
    """Turn the test split of HIDE into LMDBs of whole PNG frames.

    Args:
        root: Folder of the data set, see :func:`macr_plugin.data.preparation.hide_realblur.find_hide_pairs`.
        out: Folder of the LMDBs.
        workers: As in :func:`prepare_gopro`.
        force: As in :func:`prepare_gopro`.
        report: As in :func:`prepare_gopro`.

    Raises:
        InputError: As in :func:`prepare_gopro`.
    """
    _write([_plan("test", find_hide_pairs(root), HIDE_PAIRS, out)], out, workers, force, report)


def prepare_realblur(
    root: Path,
    out: Path,
    subset: str = "J",
    workers: int | None = None,
    force: bool = False,
    report: Callable[[str], None] = print_at_once,
) -> None:
    """Turn the test split of RealBlur into LMDBs of whole PNG frames.

    Args:
        root: Folder of the data set, see :func:`macr_plugin.data.preparation.hide_realblur.find_realblur_pairs`.
        out: Folder of the LMDBs; another one for each subset.
        subset: ``J`` or ``R``.
        workers: As in :func:`prepare_gopro`.
        force: As in :func:`prepare_gopro`.
        report: As in :func:`prepare_gopro`.

    Raises:
        InputError: As in :func:`prepare_gopro`.
    """
    pairs = find_realblur_pairs(root, subset)
    _write([_plan("test", pairs, REALBLUR_PAIRS, out)], out, workers, force, report)


def _plan(
    name: str,
    pairs: list[ImagePair],
    published: int,
    out: Path,
    blur: str | None = None,
    storage: TrainStorage = "png",
    crops: CropGrid | None = None,
) -> Split:
    pairs = [replace(pair, key=storable_key(pair.key)) for pair in pairs]
    check_keys(pairs)
    ending = NAME_ENDINGS[storage]
    targets = (out / f"{name}_blur{ending}.lmdb", out / f"{name}_sharp{ending}.lmdb")
    encoding = Storage("uncompressed" if storage == "uncompressed" else "png", blur)
    return Split(name, pairs, published, targets, Recipe(encoding, crops, _fingerprint(pairs)))


def _write(splits: Sequence[Split], out: Path, workers: int | None, force: bool, report: Callable[[str], None]) -> None:
    workers = min(os.cpu_count() or 1, MAX_DEFAULT_WORKERS) if workers is None else workers
    if workers < 1:
        raise InputError(f"--workers is {workers}: choose 1 or more")
    for split in splits:
        check_replaceable(split.targets, split.recipe, force)
        report(_describe_source(split))
    waiting = [split for split in splits if force or not is_written(split.targets, split.recipe)]
    if waiting:
        make_folder(out)
        _check_disk(waiting, out, report)
    for split in splits:
        names = " and ".join(str(target) for target in split.targets)
        if split not in waiting:
            remove_leftovers(split.targets)
            report(f"Already there: {names}")
            continue
        write_pairs(split.targets, split.pairs, split.recipe, workers)
        report(f"Written: {names}")


def _describe_source(split: Split) -> str:
    count = f"{split.name}: {len(split.pairs)} pairs"
    if len(split.pairs) == split.published:
        return f"{count}, as published"
    return f"{count}; the data set as published has {split.published}"


def _check_disk(splits: Sequence[Split], out: Path, report: Callable[[str], None]) -> None:
    needed = sum(_bytes_to_write(split) for split in splits)
    free = shutil.disk_usage(out).free
    for split in splits:
        done = pairs_written(split.targets, split.recipe)
        if done:
            report(f"{split.name}: going on after {done} of {len(split.pairs)} pairs")
    if needed > free:
        raise InputError(
            f"{out} has {_gigabytes(free)} free and needs {_gigabytes(needed)}: free some space or choose another --out"
        )
    report(f"Needs about {_gigabytes(needed)} in {out}, where {_gigabytes(free)} are free")


def _bytes_to_write(split: Split) -> float:
    remaining = split.pairs[pairs_written(split.targets, split.recipe) :]
    if not remaining:
        return 0
    sample = remaining[:: -(-len(remaining) // SAMPLED_PAIRS)]
    pictures = [picture for pair in sample for picture in encode_pair(pair, split.recipe)]
    stored = sum(_pages_bytes(value) for picture in pictures for _, value in (*picture.blur, *picture.sharp))
    if split.recipe.storage.storage == "uncompressed":
        return DISK_MARGIN * stored * len(remaining) / len(sample)
    # PNG files grow and shrink with their content: the source's sizes tell more than the number of pairs.
    return DISK_MARGIN * stored * sum(map(_file_bytes, remaining)) / sum(map(_file_bytes, sample))


def _pages_bytes(value: bytes) -> int:
    return -(-(PAGE_HEADER_BYTES + len(value)) // mmap.PAGESIZE) * mmap.PAGESIZE


def _file_bytes(pair: ImagePair) -> int:
    return pair.blur.stat().st_size + pair.sharp.stat().st_size


def _fingerprint(pairs: Sequence[ImagePair]) -> str:
    # Sizes rather than contents or dates: quick, and the same for a copy of the data set.
    lines = (f"{pair.key} {pair.blur.stat().st_size} {pair.sharp.stat().st_size}\n" for pair in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
