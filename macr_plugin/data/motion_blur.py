"""Motion blur rendered from sharp photographs, as a shaken camera makes it.

While the shutter is open the camera travels along a smooth path. The photograph is resampled at every point of the
path, and the average of these sub-frames in linear light, which is what a sensor collects, is the blurred picture. The
sharp picture is the sub-frame at the middle of the exposure: an exact cut-out of the photograph.

Every pair depends on the photograph, the settings, the seed and its own key alone, so that order and number of
processes do not matter.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from macr_plugin.data.gopro import PICTURE_SUFFIXES, check_key, find_pairs, read_bytes
from macr_plugin.data.lmdb import encode_png, staged, write_image_lmdb
from macr_plugin.errors import InputError

DEFAULT_EXTENT = (4.0, 12.0)
MARKER = "synthesis.json"
# Settings of an existing set are compared with the wanted ones; raise this when the same settings give other pictures.
RENDERING_VERSION = 1

MIN_SUBFRAMES = 9
# A path that bends and turns back is up to 2.3 times as long as its extent: 8 a pixel of extent are 3 a pixel of path.
SUBFRAMES_PER_PIXEL = 8
# Radians at either end of the exposure for each pixel of extent: 12 pixels come with up to 0.2 degrees.
MAX_ROLL_PER_PIXEL = 3e-4
# Cubic interpolation reads two pixels beyond the one that it fills.
INTERPOLATION_BORDER = 2


@dataclass(frozen=True)
class CameraPath:
    """Where the camera looks at each sub-frame, relative to the middle of the exposure.

    Attributes:
        shift: Shape (sub-frames, 2), float64: x to the right and y downwards, in pixels of the photograph. The number
            of sub-frames is odd and the middle one is (0, 0).
        roll: Shape (sub-frames,), float64: rotation about the centre of the picture in radians, 0 in the middle.
    """

    shift: np.ndarray
    roll: np.ndarray

    @property
    def extent(self) -> float:
        """Largest distance between two positions of the path, in pixels."""
        return _largest_distance(self.shift)


class Window(NamedTuple):
    """A part of a photograph, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class RenderSettings:
    """What the rendered pairs share.

    Attributes:
        seed: Non-negative; another seed gives other paths and cut-outs.
        extent: Smallest and largest extent of a path in pixels; drawn evenly between them for each pair.
        size: Height and width of the pictures, cut out of the photograph at a random place. None: the whole photograph
            less the margin that the largest extent needs.
    """

    seed: int
    extent: tuple[float, float] = DEFAULT_EXTENT
    size: tuple[int, int] | None = None


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


def generator_for(seed: int, key: str) -> np.random.Generator:
    """Make the random generator of one pair.

    Args:
        seed: Non-negative seed of the whole set.
        key: Name of the pair.

    Returns:
        A generator that depends on the two arguments alone, on any machine.
    """
    return np.random.default_rng([seed, *key.encode()])


def draw_camera_path(generator: np.random.Generator, extent: float) -> CameraPath:
    """Draw the path of a hand-held camera: drift at varying speed, slow sway that bends it, tremor and a little roll.

    The mean of the positions equals the middle one, so that the blurred picture is not displaced against the sharp one.

    Args:
        generator: Source of the random numbers.
        extent: Largest distance between two positions, in pixels; 0 for a camera at rest.

    Returns:
        The path, with at least 9 sub-frames and at least 3 a pixel of path.
    """
    count = max(MIN_SUBFRAMES, math.ceil(SUBFRAMES_PER_PIXEL * extent)) | 1
    time = np.linspace(-0.5, 0.5, count)
    heading = generator.uniform(0, 2 * np.pi)
    speed_change, bend = generator.normal(0, (0.5, 1.0))
    along, across = time + speed_change * time**3, bend * time**3
    drift = np.stack(
        (along * np.cos(heading) - across * np.sin(heading), along * np.sin(heading) + across * np.cos(heading)), axis=1
    )
    sway = _oscillation(generator, time, amplitude=0.12, cycles=(0.5, 1.5))
    tremor = _oscillation(generator, time, amplitude=0.02, cycles=(2.0, 4.0))
    shift = _centred(drift + sway + tremor, time)
    max_roll = MAX_ROLL_PER_PIXEL * extent
    return CameraPath(
        shift=shift * (extent / _largest_distance(shift)), roll=2 * time * generator.uniform(-max_roll, max_roll)
    )


def border_margin(extent: float, height: int, width: int) -> int:
    """Tell how much photograph is needed around a picture so that no sub-frame sees beyond its edge.

    Args:
        extent: Extent of the path in pixels.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.

    Returns:
        Pixels needed on each side.
    """
    corner = math.hypot(height, width) / 2
    return math.ceil(extent * (1 + MAX_ROLL_PER_PIXEL * corner)) + INTERPOLATION_BORDER


def render_pair(photo: np.ndarray, path: CameraPath, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Render the blurred and the sharp picture of a part of a photograph.

    Args:
        photo: uint8 array of shape (height, width, 3), BGR, sRGB-encoded.
        path: Path of the camera during the exposure.
        window: Which part of the photograph.

    Returns:
        The blurred and the sharp picture: uint8 arrays of shape (window.height, window.width, 3), BGR, sRGB-encoded.

    Raises:
        InputError: The photograph ends too close to the window for this path.
    """
    margin = border_margin(path.extent, window.height, window.width)
    top, left = window.top - margin, window.left - margin
    bottom, right = window.top + window.height + margin, window.left + window.width + margin
    if top < 0 or left < 0 or bottom > photo.shape[0] or right > photo.shape[1]:
        raise InputError(
            f"{window} needs {margin} pixels around it in a photograph of {photo.shape[1]}x{photo.shape[0]}: "
            "take a larger photograph or a smaller extent"
        )
    surroundings = decode_srgb(photo[top:bottom, left:right])
    total = np.zeros((window.height, window.width, 3), np.float32)
    for shift, roll in zip(path.shift, path.roll, strict=True):
        total += _look(surroundings, shift, roll, window.height, window.width)
    sharp = photo[window.top : window.top + window.height, window.left : window.left + window.width]
    return encode_srgb(total / len(path.shift)), sharp.copy()


def decode_srgb(picture: np.ndarray) -> np.ndarray:
    """Turn sRGB values into linear light.

    Args:
        picture: uint8 array of any shape.

    Returns:
        float32 array of the same shape, 0 to 1.
    """
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[picture]


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """Turn linear light into sRGB values.

    Args:
        light: float32 array of any shape; values outside 0 to 1 are clipped.

    Returns:
        uint8 array of the same shape.
    """
    light = np.clip(light, 0, 1)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * value).astype(np.uint8)


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
    with tqdm(total=len(jobs), desc=folder.name, unit="pair") as progress:
        for _ in _map_jobs(jobs, workers):
            progress.update()
    pairs = find_pairs(folder)
    blur_lmdb, sharp_lmdb = _lmdb_targets(folder)
    write_image_lmdb(blur_lmdb, ((pair.key, pair.blur) for pair in pairs))
    write_image_lmdb(sharp_lmdb, ((pair.key, pair.sharp) for pair in pairs))


def synthesize_from_photos(
    photos: Path,
    out: Path,
    pairs: int = 7,
    extent: tuple[float, float] = DEFAULT_EXTENT,
    seed: int = 0,
    workers: int = 1,
    force: bool = False,
) -> bool:
    """Render a split from a folder of sharp photographs; each photograph becomes a scene of its name.

    Writes ``<out>/<photo>/{blur,sharp}/<frame>.png``, ``<out>_blur.lmdb`` and ``<out>_sharp.lmdb``, as one split of the
    demo set, and the settings into ``<out>/synthesis.json``. All three appear only when complete.

    Args:
        photos: Folder of sharp 8-bit photographs; folders in it are not searched.
        out: Folder of the split, such as ``datasets/mine/train``.
        pairs: Number of pairs to render from each photograph.
        extent: Smallest and largest extent of the blur in pixels.
        seed: Non-negative seed.
        workers: Number of processes.
        force: Replace a split that this function wrote before.

    Returns:
        Whether anything was written: False if the split is there already, made with these settings.

    Raises:
        InputError: The photographs or settings cannot be used, or ``out`` may not be replaced.
    """
    smallest, largest = extent
    if not 0 <= smallest <= largest < math.inf:
        raise InputError(f"the extent {smallest:g} to {largest:g} is no range: give two numbers, the smaller one first")
    if pairs < 1 or workers < 1 or seed < 0:
        raise InputError("pairs and workers must be at least 1, and the seed at least 0")
    out = out.resolve()
    files = _find_photos(photos)
    settings = RenderSettings(seed, (smallest, largest))
    description = describe_settings(settings, files, pairs)
    targets = (*_lmdb_targets(out), out)
    if not needs_writing(out, description, force):
        return False
    if not out.exists():
        for lmdb_target in _lmdb_targets(out):
            if lmdb_target.exists():
                raise InputError(f"{lmdb_target} exists without {out}: remove it or choose another folder")
    scenes = [Scene(file.stem, (file,), pairs) for file in files]
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
        InputError: A photograph cannot be read.
    """
    checksums = {photo.name: zlib.crc32(read_bytes(photo)) for photo in photos}
    description = {"version": RENDERING_VERSION, **asdict(settings), "pairs": pairs, "photos": checksums}
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
class _PairJob:
    key: str
    photo: Path
    blur: Path
    sharp: Path
    settings: RenderSettings


def _largest_distance(positions: np.ndarray) -> float:
    return float(np.linalg.norm(positions[:, None] - positions[None], axis=-1).max())


def _oscillation(
    generator: np.random.Generator, time: np.ndarray, amplitude: float, cycles: tuple[float, float]
) -> np.ndarray:
    size = generator.normal(0, amplitude, 2)
    frequency = generator.uniform(*cycles, 2)
    phase = generator.uniform(0, 2 * np.pi, 2)
    return size * np.sin(2 * np.pi * frequency * time[:, None] + phase)


def _centred(positions: np.ndarray, time: np.ndarray) -> np.ndarray:
    positions = positions - positions[len(positions) // 2]
    # A parabola leaves the middle where it is and carries the mean there as well, smoothly.
    parabola = time[:, None] ** 2
    return positions - positions.mean(axis=0) * parabola / parabola.mean()


def _look(surroundings: np.ndarray, shift: np.ndarray, roll: float, height: int, width: int) -> np.ndarray:
    centre = np.array((width - 1, height - 1)) / 2
    centre_in_surroundings = np.array((surroundings.shape[1] - 1, surroundings.shape[0] - 1)) / 2
    rotation = np.array(((np.cos(roll), -np.sin(roll)), (np.sin(roll), np.cos(roll))))
    offset = centre_in_surroundings + shift - rotation @ centre
    to_surroundings = np.column_stack((rotation, offset))
    return cv2.warpAffine(surroundings, to_surroundings, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def _lmdb_targets(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f"{folder.name}_blur.lmdb"), folder.with_name(f"{folder.name}_sharp.lmdb")


def _list_jobs(folder: Path, scenes: Iterable[Scene], settings: RenderSettings) -> Iterator[_PairJob]:
    for scene in scenes:
        check_key(scene.name, scene.photos[0])
        for kind in ("blur", "sharp"):
            (folder / scene.name / kind).mkdir(parents=True)
        photos = [photo for photo in scene.photos for _ in range(scene.pairs)]
        for number, photo in enumerate(photos, start=1):
            blur, sharp = (folder / scene.name / kind / f"{number:06d}.png" for kind in ("blur", "sharp"))
            yield _PairJob(f"{scene.name}/{number:06d}", photo, blur, sharp, settings)


def _map_jobs(jobs: Sequence[_PairJob], workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(_render_job, jobs)
        return
    # Forking would copy OpenCV's thread pool in an unusable state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_render_job, jobs)


def _render_job(job: _PairJob) -> None:
    photo = cv2.imread(str(job.photo), cv2.IMREAD_COLOR)
    if photo is None:
        raise InputError(f"{job.photo} is not a readable picture: replace or remove it")
    generator = generator_for(job.settings.seed, job.key)
    extent = generator.uniform(*job.settings.extent)
    window = _draw_window(generator, photo, job)
    blur, sharp = render_pair(photo, draw_camera_path(generator, extent), window)
    job.blur.write_bytes(encode_png(blur))
    job.sharp.write_bytes(encode_png(sharp))


def _draw_window(generator: np.random.Generator, photo: np.ndarray, job: _PairJob) -> Window:
    photo_height, photo_width = photo.shape[:2]
    height, width = job.settings.size or (photo_height, photo_width)
    margin = border_margin(job.settings.extent[1], height, width)
    if job.settings.size is None:
        height, width = photo_height - 2 * margin, photo_width - 2 * margin
    spare_rows, spare_columns = photo_height - height - 2 * margin, photo_width - width - 2 * margin
    if min(height, width) < 1 or min(spare_rows, spare_columns) < 0:
        raise InputError(
            f"{job.photo} is {photo_width}x{photo_height}, too small for blur of {job.settings.extent[1]:g} pixels: "
            "remove it or choose a smaller extent"
        )
    top, left = margin + generator.integers(spare_rows + 1), margin + generator.integers(spare_columns + 1)
    return Window(int(top), int(left), height, width)


def _find_photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder of the photographs")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{folder} holds no photographs: expected {', '.join(sorted(PICTURE_SUFFIXES))}")
    by_stem: dict[str, Path] = {}
    for file in files:
        if file.stem in by_stem:
            raise InputError(f"{by_stem[file.stem]} and {file.name} would be one scene: rename one of them")
        by_stem[file.stem] = file
    return files


def _marker_text(description: dict[str, Any]) -> str:
    return json.dumps(description, indent=2) + "\n"
