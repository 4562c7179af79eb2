"""Motion blur rendered from sharp photographs, as a shaken camera makes it.

While the shutter is open the camera travels along a smooth path. The photograph is resampled at every point of the
path, and the average of these sub-frames is the blurred picture: in linear light, which is what a sensor collects, or
of the encoded values, as GoPro's ``blur`` was made. The sharp picture is the sub-frame at the middle of the exposure:
an exact cut-out of the photograph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from macr_plugin.errors import InputError

#: What the sub-frames are averaged in: ``linear`` light, as in GoPro's ``blur_gamma``, or the ``encoded`` values of the
#: photograph, as in GoPro's ``blur``.
Averaging = Literal["linear", "encoded"]

DEFAULT_EXTENT = (4.0, 12.0)
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


def generator_for(seed: int, key: str) -> np.random.Generator:
    """Make the random generator of one pair.

    Args:
        seed: Non-negative seed of the whole set.
        key: Name of the pair.

    Returns:
        A generator that depends on the two arguments alone, on any machine.
    """
    return np.random.default_rng([seed, *key.encode()])


def check_extent(extent: Sequence[float], name: str) -> tuple[float, float]:
    """Refuse a range of extents that cannot be drawn from.

    Args:
        extent: Smallest and largest extent in pixels.
        name: What the message calls it.

    Returns:
        The two numbers.

    Raises:
        InputError: They are not two numbers, are negative or infinite, or the larger one comes first.
    """
    is_pair = isinstance(extent, Sequence) and len(extent) == 2 and all(isinstance(end, (int, float)) for end in extent)
    if not (is_pair and 0 <= extent[0] <= extent[1] < math.inf):
        raise InputError(f"{name} {extent} is no range: give two numbers of pixels, the smaller one first")
    return extent[0], extent[1]


def subframe_count(extent: float, per_pixel: float = SUBFRAMES_PER_PIXEL) -> int:
    """Tell how many sub-frames a path of some extent gets.

    Args:
        extent: Extent of the path in pixels.
        per_pixel: Sub-frames for each pixel of extent.

    Returns:
        An odd number of at least 9.
    """
    return max(MIN_SUBFRAMES, math.ceil(per_pixel * extent)) | 1


def draw_camera_path(generator: np.random.Generator, extent: float, subframes: int | None = None) -> CameraPath:
    """Draw the path of a hand-held camera: drift at varying speed, slow sway that bends it, tremor and a little roll.

    The mean of the positions equals the middle one, so that the blurred picture is not displaced against the sharp one.

    Args:
        generator: Source of the random numbers.
        extent: Largest distance between two positions, in pixels; 0 for a camera at rest.
        subframes: Number of sub-frames, odd. Default: at least 9 and at least 3 a pixel of path.

    Returns:
        The path.
    """
    count = subframes or subframe_count(extent)
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


def render_pair(
    photo: np.ndarray, path: CameraPath, window: Window, averaging: Averaging = "linear"
) -> tuple[np.ndarray, np.ndarray]:
    """Render the blurred and the sharp picture of a part of a photograph.

    Args:
        photo: uint8 array of shape (height, width, 3), BGR or RGB, sRGB-encoded.
        path: Path of the camera during the exposure.
        window: Which part of the photograph.
        averaging: What the sub-frames are averaged in.

    Returns:
        The blurred and the sharp picture: uint8 arrays of shape (window.height, window.width, 3), sRGB-encoded, in
        the order of the photograph's colours.

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
    decode, encode = (decode_srgb, encode_srgb) if averaging == "linear" else (_to_float, _to_uint8)
    surroundings = decode(photo[top:bottom, left:right])
    total = np.zeros((window.height, window.width, 3), np.float32)
    for shift, roll in zip(path.shift, path.roll, strict=True):
        total += _look(surroundings, shift, roll, window.height, window.width)
    sharp = photo[window.top : window.top + window.height, window.left : window.left + window.width]
    return encode(total / len(path.shift)), sharp.copy()


def decode_srgb(picture: np.ndarray) -> np.ndarray:
    """Turn sRGB values into linear light.

    Args:
        picture: uint8 array of any shape.

    Returns:
        float32 array of the same shape, 0 to 1.
    """
    return srgb_table()[picture]


@functools.cache
def srgb_table() -> np.ndarray:
    """Linear light of each sRGB value.

    Returns:
        float32 array of shape (256,), 0 to 1.
    """
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


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


def _to_float(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / 255


def _to_uint8(picture: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


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
