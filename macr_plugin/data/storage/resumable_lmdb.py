"""Write the pictures of many pairs into two LMDBs, in a way that a killed process can be followed by one that goes on.

The LMDBs are written in a hidden folder beside their final places. Pairs are committed in batches; after each batch
``progress.json`` is replaced by one that counts it. A later run with the same recipe goes on after the last counted
pair, and moves the LMDBs into place when they are complete; one with another recipe starts over. Bad input removes the
hidden folder; a kill, a full disk and any other failure leave it for the next run.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import lmdb
from tqdm import tqdm

from macr_plugin.data.pairs import ImagePair, check_sizes
from macr_plugin.data.picture_files import check_png, decode_picture, describe_size, read_bytes
from macr_plugin.data.storage.crop_grid import CropGrid
from macr_plugin.data.storage.lmdb_format import (
    DATA_FILE,
    META_INFO,
    STORAGE_FILE,
    Storage,
    meta_line,
    picture_entries,
    write_storage,
)
from macr_plugin.data.storage.lmdb_writer import INITIAL_MAP_BYTES, LMDB_DISK_ERRORS, put_all
from macr_plugin.errors import DiskError, InputError
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.filesystem.staging import (
    disk_errors,
    flush,
    lock_file,
    make_folder,
    publish,
    staging_folder,
    staging_lock,
)

PROGRESS_FILE = "progress.json"
# A kill loses one batch: about a second of work, at most 90 MB of 1280x720 frames.
PAIRS_PER_BATCH = 16
# Pictures decoded ahead of the writer, for each worker.
QUEUED_PER_WORKER = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Recipe:
    """What two LMDBs are made from and how; equal recipes give equal LMDBs.

    Attributes:
        storage: How the blurred pictures are stored; the sharp ones alike.
        crops: Crops to store instead of whole frames.
        source: Fingerprint of the keys and files of all pairs.
    """

    storage: Storage
    crops: CropGrid | None
    source: str

    def describe(self) -> dict[str, Any]:
        """Describe the recipe.

        Returns:
            A dictionary that survives JSON unchanged.
        """
        return {**asdict(self), "storage": self.storage.describe()}


@dataclass(frozen=True)
class StoredPair:
    """One picture of both LMDBs.

    Attributes:
        key: Of the pair, ``scene/frame``.
        size: Height and width in pixels.
        blur: Keys and values in the LMDB of blurred pictures.
        sharp: Keys and values in the LMDB of sharp pictures.
    """

    key: str
    size: tuple[int, int]
    blur: list[tuple[str, bytes]]
    sharp: list[tuple[str, bytes]]


@dataclass
class Progress:
    """What the hidden folder holds.

    Attributes:
        recipe: Description of the recipe that is followed.
        pairs: Number of pairs committed.
        lines: Lines of ``meta_info.txt`` for them.
        complete: Whether the LMDBs are complete and only have to be moved.
    """

    recipe: dict[str, Any]
    pairs: int = 0
    lines: list[str] = field(default_factory=list)
    complete: bool = False


def encode_pair(pair: ImagePair, recipe: Recipe) -> list[StoredPair]:
    """Read a pair, check it, and make what the LMDBs hold for it.

    Args:
        pair: The two files.
        recipe: How to store them.

    Returns:
        One picture, or one for each crop.

    Raises:
        InputError: A picture cannot be read, is damaged or is not 8-bit colour, the two sizes differ, or a picture is
            smaller than a crop.
    """
    blur_data, sharp_data = read_bytes(pair.blur), read_bytes(pair.sharp)
    check_png(blur_data, pair.blur)
    check_png(sharp_data, pair.sharp)
    blur, sharp = decode_picture(blur_data, pair.blur), decode_picture(sharp_data, pair.sharp)
    check_sizes(pair, blur, sharp)
    height, width = blur.shape[:2]
    storage = recipe.storage
    if recipe.crops is None:
        blur_entries = picture_entries(pair.key, blur, storage, blur_data)
        sharp_entries = picture_entries(pair.key, sharp, storage, sharp_data)
        return [StoredPair(pair.key, (height, width), blur_entries, sharp_entries)]
    corners = recipe.crops.corners(height, width)
    if not corners:
        raise InputError(
            f"{pair.blur} is {describe_size(blur)}, smaller than a crop of {recipe.crops.size}: lower --crop-size"
        )
    side = recipe.crops.size
    stored = []
    for number, (top, left) in enumerate(corners, start=1):
        window = (slice(top, top + side), slice(left, left + side))
        key = f"{pair.key}_s{number:03d}"
        entries = (picture_entries(key, picture[window], storage) for picture in (blur, sharp))
        stored.append(StoredPair(key, (side, side), *entries))
    return stored


def is_written(targets: Sequence[Path], recipe: Recipe) -> bool:
    """Tell whether the LMDBs are in place already.

    Args:
        targets: The two LMDB folders.
        recipe: What they should be made from.

    Returns:
        Whether both are there and were made by this recipe.
    """
    return all(_recipe_of(target) == recipe.describe() for target in targets)


def check_replaceable(targets: Sequence[Path], recipe: Recipe, force: bool) -> None:
    """Refuse targets that hold something else.

    Args:
        targets: The two LMDB folders.
        recipe: What they are to be made from.
        force: Whether other LMDBs may be replaced.

    Raises:
        InputError: A target is there and is no LMDB, or is another one while ``force`` is not given.
    """
    for target in targets:
        if not target.exists() or _recipe_of(target) == recipe.describe():
            continue
        if not (target / DATA_FILE).is_file():
            raise InputError(f"{target} exists and is no LMDB: remove it or choose another --out")
        if not force:
            raise InputError(f"{target} was made from other pictures or settings: --force replaces it")


def pairs_written(targets: Sequence[Path], recipe: Recipe) -> int:
    """Count the pairs that an earlier run with the same recipe has left in the hidden folder.

    Args:
        targets: The two LMDB folders.
        recipe: What they are made from.

    Returns:
        Their number.
    """
    return _read_progress(targets, recipe).pairs


def remove_leftovers(targets: Sequence[Path]) -> None:
    """Remove the hidden folder, and the lock file, of a run that was killed after its last step.

    Args:
        targets: The two LMDB folders, complete.

    Raises:
        InputError: Another process is about to do so.
    """
    staging = staging_folder(targets[0])
    if staging.exists() or lock_file(staging).exists():
        with staging_lock(staging):
            shutil.rmtree(staging, ignore_errors=True)


def write_pairs(targets: tuple[Path, Path], pairs: Sequence[ImagePair], recipe: Recipe, workers: int) -> None:
    """Write the LMDBs of blurred and sharp pictures, going on where an earlier run with the same recipe stopped.

    Args:
        targets: Final folder of the blurred and of the sharp pictures, side by side. What stands there is replaced.
        pairs: The pairs, with keys that :func:`macr_plugin.data.pairs.check_keys` accepts, in the order of the list.
        recipe: How to store them.
        workers: Number of threads that decode and encode.

    Raises:
        InputError: A pair is unusable, see :func:`encode_pair`, the folder cannot be written to, the disk is full, or
            another process is writing the same LMDBs.
    """
    parent, staging = targets[0].parent, staging_folder(targets[0])
    make_folder(staging)
    with staging_lock(staging), disk_errors(parent, _remedy(staging), LMDB_DISK_ERRORS):
        progress = _read_progress(targets, recipe)
        if progress.pairs == 0:
            _empty(staging)
        partial = [staging / target.name for target in targets]
        if not progress.complete:
            try:
                _write_missing(partial, pairs, recipe, progress, workers)
            except DiskError:
                raise
            except InputError:
                shutil.rmtree(staging)
                raise
            _complete(staging, partial, recipe, progress)
        # A run killed while it moved them has moved the first.
        left = [(source, target) for source, target in zip(partial, targets, strict=True) if source.exists()]
        publish([source for source, _ in left], [target for _, target in left], staging)
        shutil.rmtree(staging)


def _write_missing(
    partial: Sequence[Path], pairs: Sequence[ImagePair], recipe: Recipe, progress: Progress, workers: int
) -> None:
    for folder in partial:
        folder.mkdir(exist_ok=True)
    remaining = pairs[progress.pairs :]
    bar = tqdm(total=len(pairs), initial=progress.pairs, desc=partial[0].stem, unit="pair", disable=None)
    with (
        _open(partial[0]) as blur,
        _open(partial[1]) as sharp,
        ThreadPoolExecutor(workers) as pool,
        bar,
    ):
        encoded = _in_order(pool, lambda pair: encode_pair(pair, recipe), remaining, QUEUED_PER_WORKER * workers)
        while batch := list(islice(encoded, PAIRS_PER_BATCH)):
            stored = [picture for pictures in batch for picture in pictures]
            # A batch that was committed but not counted is committed again.
            put_all(blur, [entry for picture in stored for entry in picture.blur], overwrite=True)
            put_all(sharp, [entry for picture in stored for entry in picture.sharp], overwrite=True)
            progress.pairs += len(batch)
            progress.lines += [meta_line(picture.key, picture.size, recipe.storage.storage) for picture in stored]
            _write_progress(partial[0].parent, progress)
            bar.update(len(batch))


def _complete(staging: Path, partial: Sequence[Path], recipe: Recipe, progress: Progress) -> None:
    text = "".join(f"{line}\n" for line in progress.lines)
    storages = (recipe.storage, replace(recipe.storage, blur=None))
    for folder, storage in zip(partial, storages, strict=True):
        (folder / META_INFO).write_text(text)
        write_storage(folder, storage, {"recipe": recipe.describe()})
    flush(staging)
    progress.complete = True
    _write_progress(staging, progress)


def _open(folder: Path) -> lmdb.Environment:
    # No lock file: the folder is ours alone until it is complete. Commits are synced, so progress.json never counts
    # pairs that a power failure could take back.
    return lmdb.open(str(folder), map_size=INITIAL_MAP_BYTES, lock=False)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    # Executor.map would hold the results of the whole data set in memory if the disk is slower than the workers.
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _read_progress(targets: Sequence[Path], recipe: Recipe) -> Progress:
    staging = staging_folder(targets[0])
    fresh = Progress(recipe.describe())
    try:
        progress = Progress(**json.loads((staging / PROGRESS_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return fresh
    there = all(
        (staging / target.name / DATA_FILE).is_file() or (progress.complete and _recipe_of(target) == fresh.recipe)
        for target in targets
    )
    return progress if there and progress.recipe == fresh.recipe else fresh


def _write_progress(staging: Path, progress: Progress) -> None:
    with atomic_write(staging / PROGRESS_FILE, _remedy(staging)) as file:
        file.write(json.dumps(asdict(progress)).encode())


def _remedy(staging: Path) -> str:
    return f"free some space and run the same command again, which goes on from {staging}, or remove that folder"


def _recipe_of(target: Path) -> dict[str, Any] | None:
    if not (target / DATA_FILE).is_file():
        return None
    try:
        return json.loads((target / STORAGE_FILE).read_text())["recipe"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
