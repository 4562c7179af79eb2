"""Sets of motion-blurred pairs: rendered from photographs and written in the GoPro layout and as LMDBs.

Every pair depends on the photograph, the settings, the seed and its own key alone, so that order and number of
processes do not matter; only shapes that move on their own are filled from another photograph of the set.

The blurred pictures lie in the folder ``blur`` whatever they were averaged in. ``storage.json`` of their LMDB says
which of GoPro's two blurred versions they correspond to: ``blur_gamma`` is the average in linear light, ``blur`` that
of encoded values.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from macr_plugin.data.pairs import check_key, picture_key, storable_key
from macr_plugin.data.picture_files import describe_size, encode_png, read_bytes
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.lmdb_format import Encoding, Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.data.synthesis.blur_model import BlurModel
from macr_plugin.data.synthesis.paths import generator_for
from macr_plugin.data.synthesis.rendering import render_pair
from macr_plugin.data.synthesis.response import Averaging
from macr_plugin.data.synthesis.source_photos import list_photos, read_photo
from macr_plugin.errors import InputError
from macr_plugin.filesystem.staging import staged
from macr_plugin.visualization import Box

MARKER = "synthesis.json"
# Settings of an existing set are compared with the wanted ones; raise this when the same settings give other pictures.
RENDERING_VERSION = 2
GOPRO_NAMES: dict[Averaging, str] = {"linear": "blur_gamma", "encoded": "blur"}
# A photograph is decoded once for so many pairs; what one process does at a time.
PAIRS_PER_JOB = 32


@dataclass(frozen=True)
class RenderSettings:
    """What the rendered pairs share.

    Attributes:
        seed: Non-negative; another seed gives other paths and cut-outs.
        size: Height and width of the pictures, cut out of the photograph at a random place. None: the whole photograph
            less the margin that the largest extent needs.
        model: What the blur is drawn from.
        storage: How the LMDBs store the pictures.
    """

    seed: int
    size: tuple[int, int] | None = None
    model: BlurModel = field(default_factory=BlurModel)
    storage: Encoding = "png"


@dataclass(frozen=True)
class Scene:
    """Photographs that show one scene and so must not be divided between training and testing.

    Attributes:
        name: Folder name of the scene.
        photos: Photograph files.
        pairs: Number of pairs to render from each photograph.
    """

    name: str
    photos: tuple[Path, ...]
    pairs: int


def write_split(folder: Path, scenes: Sequence[Scene], settings: RenderSettings, workers: int = 1) -> None:
    """Render all pairs of a split in the GoPro layout, with their two LMDBs beside the folder.

    Writes ``<folder>/<scene>/{blur,sharp}/<frame>.png``, ``<folder>_blur.lmdb`` and ``<folder>_sharp.lmdb``.

    Args:
        folder: Folder of the split, not existing yet.
        scenes: What to render.
        settings: How to render it.
        workers: Number of processes.

    Raises:
        InputError: A photograph cannot be read or is too small, or a scene name cannot be used as a key.
    """
    jobs = list(_list_jobs(folder, scenes, settings))
    with tqdm(total=sum(len(job.pairs) for job in jobs), desc=folder.name, unit="pair") as progress:
        for rendered in _map_jobs(jobs, workers):
            progress.update(rendered)
    pairs = find_pairs(folder)
    blur_lmdb, sharp_lmdb = _lmdb_targets(folder)
    averaging = settings.model.averaging
    gopro_name = GOPRO_NAMES.get(averaging[0]) if len(averaging) == 1 else None
    storage = settings.storage
    write_image_lmdb(blur_lmdb, ((pair.key, pair.blur) for pair in pairs), Storage(storage, gopro_name))
    write_image_lmdb(sharp_lmdb, ((pair.key, pair.sharp) for pair in pairs), Storage(storage))


def synthesize_from_photos(
    photos: Path | Sequence[Path],
    out: Path,
    pairs: int = 7,
    size: tuple[int, int] | None = None,
    model: BlurModel | None = None,
    storage: Encoding = "png",
    seed: int = 0,
    workers: int | None = None,
    force: bool = False,
) -> bool:
    """Render a split from sharp photographs; each photograph becomes a scene of its name.

    Writes ``<out>/<photo>/{blur,sharp}/<frame>.png``, ``<out>_blur.lmdb`` and ``<out>_sharp.lmdb``, as one split of the
    demo set, and the settings into ``<out>/synthesis.json``. All three appear only when complete.

    Args:
        photos: Sharp 8-bit photographs: a folder, in which folders are not searched, or files and such folders.
        out: Folder of the split, such as ``datasets/mine/train``.
        pairs: Number of pairs to render from each photograph.
        size: Height and width of the pictures, cut out of each photograph at a random place. Default: the whole
            photograph less the margin that the largest extent needs.
        model: What the blur is drawn from. Default: one path for the whole picture, 4 to 12 pixels. Two runs with one
            seed whose models differ in ``averaging`` alone give the same sharp pictures and paths.
        storage: How the LMDBs store the pictures.
        seed: Non-negative seed.
        workers: Number of processes. Default: one for each CPU.
        force: Replace a split that this function wrote before.

    Returns:
        Whether anything was written: False if the split is there already, made with these settings.

    Raises:
        InputError: The photographs or settings cannot be used, or ``out`` may not be replaced.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if pairs < 1 or workers < 1 or seed < 0:
        raise InputError("pairs and workers must be at least 1, and the seed at least 0")
    if size is not None and min(size) < 1:
        raise InputError(f"the size {size[1]}x{size[0]} is no size: give width and height of at least 1 pixel")
    out = out.resolve()
    files = _photos_by_scene([photos] if isinstance(photos, Path) else photos)
    settings = RenderSettings(seed, size, model or BlurModel(), storage)
    description = describe_settings(settings, files.values(), pairs)
    targets = (*_lmdb_targets(out), out)
    if not needs_writing(out, description, force):
        return False
    if not out.exists():
        for lmdb_target in _lmdb_targets(out):
            if lmdb_target.exists():
                raise InputError(f"{lmdb_target} exists without {out}: remove it or choose another folder")
    scenes = [Scene(name, (file,), pairs) for name, file in files.items()]
    # The folder with the settings comes last: where it is, everything is.
    with staged(*targets) as (*_, partial):
        write_split(partial, scenes, settings, workers)
        write_marker(partial, description)
    return True


def describe_settings(settings: RenderSettings, photos: Iterable[Path], pairs: int) -> dict[str, Any]:
    """Describe what a set is rendered from, to tell whether an existing one is the one that is wanted.

    Args:
        settings: How it is rendered.
        photos: The photograph files.
        pairs: Number of pairs of each.

    Returns:
        A dictionary that survives JSON unchanged.

    Raises:
        InputError: A photograph or a picture of ``object_folder`` cannot be read.
    """
    folder = settings.model.object_folder
    objects = list_photos(Path(folder), recursive=False) if folder is not None else []
    description = {
        "version": RENDERING_VERSION,
        "seed": settings.seed,
        "size": settings.size,
        "storage": settings.storage,
        **asdict(settings.model),
        "pairs": pairs,
        "photos": _checksums(photos),
        "objects": _checksums(objects),
    }
    return json.loads(json.dumps(description))


def needs_writing(folder: Path, description: dict[str, Any], force: bool) -> bool:
    """Decide whether a synthetic set has to be written.

    Args:
        folder: Where it is wanted.
        description: What is wanted, from ``describe_settings``.
        force: Whether a set that is there may be replaced.

    Returns:
        False if the wanted set is there already and ``force`` is not given.

    Raises:
        InputError: The folder holds something that was not written by this module, which is never replaced, or another
            set while ``force`` is not given.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return True
    marker = folder / MARKER
    if not marker.is_file():
        raise InputError(f"{folder} exists and was not written by `macr synthesize`: remove it or choose another --out")
    if force:
        return True
    if marker.read_text() != _marker_text(description):
        raise InputError(f"{folder} was rendered from other photographs or settings: --force replaces it")
    return False


def write_marker(folder: Path, description: dict[str, Any]) -> None:
    """Write the description of a set into its folder.

    Args:
        folder: Folder of the set.
        description: What it holds, from ``describe_settings``.
    """
    (folder / MARKER).write_text(_marker_text(description))


@dataclass(frozen=True)
class _PairFiles:
    key: str
    blur: Path
    sharp: Path


@dataclass(frozen=True)
class _PhotoJob:
    """Some pairs of one photograph; moving shapes are filled from another one."""

    photo: Path
    other_photo: Path
    pairs: tuple[_PairFiles, ...]
    settings: RenderSettings


def _lmdb_targets(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f"{folder.name}_blur.lmdb"), folder.with_name(f"{folder.name}_sharp.lmdb")


def _list_jobs(folder: Path, scenes: Sequence[Scene], settings: RenderSettings) -> Iterator[_PhotoJob]:
    photos = [photo for scene in scenes for photo in scene.photos]
    for scene in scenes:
        check_key(scene.name, scene.photos[0])
        for kind in ("blur", "sharp"):
            (folder / scene.name / kind).mkdir(parents=True)
        for place, photo in enumerate(scene.photos):
            numbers = range(place * scene.pairs + 1, (place + 1) * scene.pairs + 1)
            pairs = [_pair_files(folder, scene.name, number) for number in numbers]
            others = [other for other in photos if other != photo] or [photo]
            other = others[int(generator_for(settings.seed, str(photo.name)).integers(len(others)))]
            for start in range(0, len(pairs), PAIRS_PER_JOB):
                yield _PhotoJob(photo, other, tuple(pairs[start : start + PAIRS_PER_JOB]), settings)


def _pair_files(folder: Path, scene: str, number: int) -> _PairFiles:
    blur, sharp = (folder / scene / kind / f"{number:06d}.png" for kind in ("blur", "sharp"))
    return _PairFiles(f"{scene}/{number:06d}", blur, sharp)


def _map_jobs(jobs: Sequence[_PhotoJob], workers: int) -> Iterator[int]:
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from map(_render_job, jobs)
        return
    # Forking would copy OpenCV's thread pool in an unusable state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_render_job, jobs)


def _render_job(job: _PhotoJob) -> int:
    photo, model = read_photo(job.photo), job.settings.model
    read_other = functools.cache(lambda: read_photo(job.other_photo))
    for pair in job.pairs:
        generator = generator_for(job.settings.seed, pair.key)
        extent = model.draw_extent(generator)
        window = _draw_window(generator, photo, job)
        shot = model.draw_shot(generator, extent, window[2:], lambda _: read_other())
        blur, sharp = render_pair(photo, shot, window)
        pair.blur.write_bytes(encode_png(blur))
        pair.sharp.write_bytes(encode_png(sharp))
    return len(job.pairs)


def _draw_window(generator: np.random.Generator, photo: np.ndarray, job: _PhotoJob) -> Box:
    photo_height, photo_width = photo.shape[:2]
    size, model = job.settings.size, job.settings.model
    height, width = size or (photo_height, photo_width)
    margin = model.margin(height, width)
    if size is None:
        height, width = photo_height - 2 * margin, photo_width - 2 * margin
    spare_rows, spare_columns = photo_height - height - 2 * margin, photo_width - width - 2 * margin
    wanted = f" {width}x{height} pixels with" if size else ""
    if min(height, width) < 1 or min(spare_rows, spare_columns) < 0:
        raise InputError(
            f"{job.photo} is {describe_size(photo)}, too small for{wanted} blur of {model.extent[1]:g} pixels: "
            f"remove it or choose a smaller extent{' or size' * bool(wanted)}"
        )
    top, left = margin + generator.integers(spare_rows + 1), margin + generator.integers(spare_columns + 1)
    return Box(int(top), int(left), height, width)


def _photos_by_scene(sources: Iterable[Path]) -> dict[str, Path]:
    by_scene: dict[str, Path] = {}
    for source in sources:
        for file in [source] if source.is_file() else list_photos(source, recursive=False):
            scene = storable_key(picture_key(file.name))
            if scene in by_scene:
                raise InputError(f"{by_scene[scene]} and {file.name} would be one scene: rename one of them")
            by_scene[scene] = file
    return by_scene


def _checksums(files: Iterable[Path]) -> dict[str, int]:
    return {file.name: zlib.crc32(read_bytes(file)) for file in files}


def _marker_text(description: dict[str, Any]) -> str:
    return json.dumps(description, indent=2) + "\n"
