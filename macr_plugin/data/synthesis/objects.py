"""Things that move on their own while the shutter is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from macr_plugin.data.picture_files import read_bytes
from macr_plugin.data.synthesis.paths import INTERPOLATION_BORDER
from macr_plugin.data.synthesis.response import Averaging, decode
from macr_plugin.errors import InputError

# Height of an object in parts of that of the picture, and how far a cut-out may be enlarged.
OBJECT_HEIGHT = (0.2, 0.8)
MAX_ENLARGEMENT = 1.25
SHAPE_GRID = 4


@dataclass(frozen=True)
class MovingObject:
    """A cut-out in front of the photograph.

    Attributes:
        cut_out: uint8 array (height, width, 4), the colours in the order of the photograph's, then alpha.
        top: Row of the picture in which it begins, in the middle of the exposure; may be negative.
        left: Column in which it begins.
        shift: Shape (sub-frames, 2), float64: where the camera looks at it, as ``CameraPath.shift``.
    """

    cut_out: np.ndarray
    top: int
    left: int
    shift: np.ndarray

    def layer(self, averaging: Averaging, height: int, width: int) -> ObjectLayer | None:
        """Put the object where a picture of some size shows it.

        Args:
            averaging: What light is measured in.
            height: Height of the picture, in pixels.
            width: Width of the picture, in pixels.

        Returns:
            What is laid over each sub-frame; None if the object is out of sight in all of them.
        """
        reach = int(np.ceil(np.abs(self.shift).max())) + INTERPOLATION_BORDER
        top, left = max(0, self.top - reach), max(0, self.left - reach)
        bottom = min(height, self.top + self.cut_out.shape[0] + reach)
        right = min(width, self.left + self.cut_out.shape[1] + reach)
        if bottom <= top or right <= left:
            return None
        alpha = self.cut_out[..., 3:].astype(np.float32) / 255
        light = np.concatenate((decode(self.cut_out[..., :3], averaging) * alpha, alpha), axis=-1)
        return ObjectLayer(light, (self.top - top, self.left - left), (slice(top, bottom), slice(left, right)))

    def canvas(self, height: int, width: int, margin: int) -> np.ndarray:
        """Put the object into a transparent picture.

        Args:
            height: Height of the picture that shows it.
            width: Width of that picture.
            margin: How many pixels more there are on each side.

        Returns:
            uint8 array (height + 2 margin, width + 2 margin, 4).
        """
        canvas = np.zeros((height + 2 * margin, width + 2 * margin, 4), np.uint8)
        rows, columns = (
            slice(max(0, start), max(0, start + own))
            for start, own in zip((self.top + margin, self.left + margin), self.cut_out.shape, strict=False)
        )
        part = canvas[rows, columns]
        top, left = max(0, -self.top - margin), max(0, -self.left - margin)
        part[:] = self.cut_out[top : top + part.shape[0], left : left + part.shape[1]]
        return canvas


@dataclass(frozen=True)
class ObjectLayer:
    """A moving object as light.

    Attributes:
        light: float32 array (height, width, 4): light times alpha, and alpha.
        corner: Row and column at which it begins within ``part``, in the middle of the exposure.
        part: Rows and columns of the picture that it can reach.
    """

    light: np.ndarray
    corner: tuple[int, int]
    part: tuple[slice, slice]

    def cover(self, subframe: np.ndarray, shift: np.ndarray) -> None:
        """Lay the object over a sub-frame.

        Args:
            subframe: Light, float32 array (height, width, 3), at least 0; changed in place.
            shift: Where the camera looks at the object: x and y in pixels, shape (2,).
        """
        covered = subframe[self.part]
        to_picture = np.array(((1, 0, self.corner[1] - shift[0]), (0, 1, self.corner[0] - shift[1])))
        size = covered.shape[1], covered.shape[0]
        # Linear: a cubic kernel would overshoot at the edge of the object.
        layer = cv2.warpAffine(self.light, to_picture, size, flags=cv2.INTER_LINEAR)
        covered *= 1 - layer[..., 3:]
        covered += layer[..., :3]


def read_cut_out(path: Path) -> np.ndarray:
    """Read a picture with transparency.

    Args:
        path: The file.

    Returns:
        uint8 array (height, width, 4), BGR and alpha.

    Raises:
        InputError: The file cannot be read, or has no alpha channel of 8 bits.
    """
    data = np.frombuffer(read_bytes(path), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None:
        raise InputError(f"{path} is not a readable picture: replace or remove it")
    if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
        raise InputError(f"{path} is no cut-out: give 8-bit colour with an alpha channel, or remove it")
    return picture


def fit_cut_out(generator: np.random.Generator, picture: np.ndarray, height: int) -> np.ndarray:
    """Scale a cut-out to a random size.

    Args:
        generator: Source of the random numbers.
        picture: uint8 array (height, width, 4).
        height: Height of the picture that it goes into.

    Returns:
        uint8 array (height', width', 4), flipped from left to right half of the time.
    """
    scale = min(MAX_ENLARGEMENT, generator.uniform(*OBJECT_HEIGHT) * height / picture.shape[0])
    size = [max(1, round(scale * side)) for side in picture.shape[1::-1]]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    # Light under alpha 0 is anything: it must not bleed into the edge.
    alpha = picture[..., 3:].astype(np.float32) / 255
    scaled = cv2.resize(np.concatenate((picture[..., :3] * alpha, alpha), axis=-1), size, interpolation=interpolation)
    scaled[..., :3] /= np.maximum(scaled[..., 3:], 1 / 255)
    scaled[..., 3] *= 255
    scaled = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return scaled[:, ::-1] if generator.integers(2) else scaled


def draw_shape(
    generator: np.random.Generator, height: int, width: int, draw_photo: Callable[[np.random.Generator], np.ndarray]
) -> np.ndarray:
    """Draw a soft-edged random shape filled from a photograph.

    Args:
        generator: Source of the random numbers.
        height: Height of the picture that it goes into, in pixels.
        width: Width of that picture, in pixels.
        draw_photo: Gives a photograph, uint8 array (height, width, 3).

    Returns:
        uint8 array (height', width', 4), the colours in the order of the photograph's, then alpha.
    """
    photo = draw_photo(generator)
    sides = [
        max(1, min(round(generator.uniform(*OBJECT_HEIGHT) * side), limit))
        for side, limit in zip((height, width), photo.shape, strict=False)
    ]
    top, left = (int(generator.integers(limit - side + 1)) for side, limit in zip(sides, photo.shape, strict=False))
    filling = photo[top : top + sides[0], left : left + sides[1]]
    y, x = np.linspace(-1, 1, sides[0], dtype=np.float32)[:, None], np.linspace(-1, 1, sides[1], dtype=np.float32)
    bumps = generator.normal(0, 0.3, (SHAPE_GRID, SHAPE_GRID)).astype(np.float32)
    inside = 0.8 - x**2 - y**2 + cv2.resize(bumps, (sides[1], sides[0]), interpolation=cv2.INTER_CUBIC)
    # The shape ends within its box, however the bumps fall.
    inside = np.minimum(inside, 4 * (1 - np.maximum(np.abs(x), np.abs(y))))
    softness = generator.uniform(0.02, 0.2)
    alpha = np.rint(255 * (inside / softness).clip(0, 1)).astype(np.uint8)
    return np.dstack((filling, alpha))
