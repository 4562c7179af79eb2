"""Full frames like GoPro's, rendered from photographs and stored in every way that is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from macr_plugin.data.picture_files import encode_png, read_picture
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.crop_grid import CropGrid
from macr_plugin.data.storage.lmdb_format import Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.data.synthesis.demo import PHOTO_FOLDER, SCENES

HEIGHT, WIDTH = 720, 1280
CROP_GRID = CropGrid(size=480, step=240)
# With it the PNG files are about as large as GoPro's, 1.3 MB.
NOISE = 0.7


def write_frames(root: Path, count: int) -> None:
    """Render frames in the GoPro layout, and store them and their crops in LMDBs beside it."""
    photos = [PHOTO_FOLDER / name for scenes in SCENES.values() for names in scenes.values() for name in names]
    for number in tqdm(range(count), desc="rendering", unit="pair"):
        generator = np.random.default_rng(number)
        sharp = render_frame(read_picture(photos[number % len(photos)]), generator)
        for kind, picture in (("blur", cv2.blur(sharp, (9, 1))), ("sharp", sharp)):
            noisy = np.clip(picture + generator.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)
            file = root / "frames" / f"scene{number % 20:02d}" / kind / f"{number:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_png(noisy))
    pairs = find_pairs(root / "frames")
    for kind in tqdm(("blur", "sharp"), desc="storing", unit="LMDB set"):
        files = [(pair.key, getattr(pair, kind)) for pair in pairs]
        write_image_lmdb(root / f"{kind}.lmdb", files)
        write_image_lmdb(root / f"{kind}_uncompressed.lmdb", files, Storage("uncompressed"))
        write_image_lmdb(root / f"{kind}_crops.lmdb", crop_frames(files))
        # BasicSR reads two folders with the same file names.
        flat = root / f"{kind}_files"
        flat.mkdir()
        for key, file in files:
            (flat / f"{key.replace('/', '-')}.png").hardlink_to(file)


def render_frame(photo: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blow a photograph up to a frame of its own: another part, side and brightness each time."""
    scale = max(HEIGHT / photo.shape[0], WIDTH / photo.shape[1]) * generator.uniform(1, 1.2)
    large = cv2.resize(photo, None, fx=scale * 1.01, fy=scale * 1.01, interpolation=cv2.INTER_CUBIC)
    top, left = (generator.integers(have - want + 1) for have, want in zip(large.shape, (HEIGHT, WIDTH), strict=False))
    part = large[top : top + HEIGHT, left : left + WIDTH, :: generator.choice([-1, 1])]
    return np.clip(part * generator.uniform(0.8, 1.0), 0, 255).astype(np.uint8)


def crop_frames(files: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, bytes]]:
    """The overlapping crops that the peers' preparation scripts cut."""
    for key, file in files:
        picture = read_picture(file)
        for number, (top, left) in enumerate(CROP_GRID.corners(*picture.shape[:2])):
            crop = picture[top : top + CROP_GRID.size, left : left + CROP_GRID.size]
            yield f"{key}_s{number:03d}", encode_png(crop)
