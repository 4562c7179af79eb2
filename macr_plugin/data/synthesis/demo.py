"""The demo set: motion-blurred pairs rendered from photographs that scikit-image carries in its wheel.

Nothing is downloaded. Training and testing use different photographs. Layout under the output folder::

    train/<scene>/{blur,sharp}/<frame>.png    28 pairs of 352x352
    test/<scene>/{blur,sharp}/<frame>.png     6 pairs of 384x256
    {train,test}_{blur,sharp}.lmdb            the same pictures for BasicSR, keys <scene>/<frame>
    synthesis.json                            what the set was rendered from
"""

from __future__ import annotations

from pathlib import Path

import skimage

from macr_plugin.data.synthesis.pair_sets import (
    RenderSettings,
    Scene,
    describe_settings,
    needs_writing,
    write_marker,
    write_split,
)
from macr_plugin.errors import InputError
from macr_plugin.filesystem.staging import staged

# Beside the package rather than through skimage.data, which would download a file that it does not find.
PHOTO_FOLDER = Path(skimage.__file__).parent / "data"
# The motorcycles are one scene seen by a stereo camera: both views stay on one side.
SCENES: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "astronaut": ("astronaut.png",),
        "motorcycle": ("motorcycle_left.png", "motorcycle_right.png"),
        "rocket": ("rocket.jpg",),
    },
    "test": {
        "chelsea": ("chelsea.png",),
        "coffee": ("coffee.png",),
    },
}
PAIRS_PER_PHOTO = {"train": 7, "test": 3}
# Height and width. Training crops 256x256; a test picture has to fit into the smallest photograph, 451x300.
PICTURE_SIZE = {"train": (352, 352), "test": (256, 384)}


def write_demo(out: Path, seed: int = 0, force: bool = False) -> bool:
    """Render the demo set; takes about 10 seconds and 30 MB.

    The set appears under its name only when complete. The same seed gives the same bytes with the same versions of
    NumPy, OpenCV and lmdb.

    Args:
        out: Folder of the set.
        seed: Non-negative seed.
        force: Replace a set that this function wrote before.

    Returns:
        Whether anything was written: False if the set is there already, made with this seed.

    Raises:
        InputError: The seed is negative, ``out`` may not be replaced or cannot be written, or the installed
            scikit-image lacks a photograph.
    """
    if seed < 0:
        raise InputError(f"the seed {seed} is negative: choose 0 or more")
    scenes = {split: _scenes_of(split) for split in SCENES}
    settings = {split: RenderSettings(seed, size=PICTURE_SIZE[split]) for split in SCENES}
    description = {
        split: describe_settings(
            settings[split], [photo for scene in scenes[split] for photo in scene.photos], PAIRS_PER_PHOTO[split]
        )
        for split in SCENES
    }
    if not needs_writing(out, description, force):
        return False
    with staged(out) as (partial,):
        for split in SCENES:
            write_split(partial / split, scenes[split], settings[split])
        write_marker(partial, description)
    return True


def _scenes_of(split: str) -> list[Scene]:
    return [
        Scene(name, tuple(_photo(file) for file in files), PAIRS_PER_PHOTO[split])
        for name, files in SCENES[split].items()
    ]


def _photo(name: str) -> Path:
    photo = PHOTO_FOLDER / name
    if not photo.is_file():
        raise InputError(f"the installed scikit-image carries no {name}: install scikit-image 0.20 or later")
    return photo
