"""Paths of a camera, or of anything else that moves, while the shutter is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from macr_plugin.errors import InputError

MIN_SUBFRAMES = 9
# A path that bends and turns back is up to 2.3 times as long as its extent: 8 a pixel of extent are 3 a pixel of path.
SUBFRAMES_PER_PIXEL = 8
# Radians at either end of the exposure for each pixel of extent: 12 pixels come with up to 0.2 degrees.
MAX_ROLL_PER_PIXEL = 3e-4
# Pixels: that of an action camera in a picture 1280 pixels wide. It bends straight lines where the camera turns.
FOCAL_LENGTH = 1000.0
# Cubic interpolation reads two pixels beyond the one that it fills.
INTERPOLATION_BORDER = 2


@dataclass(frozen=True)
class CameraPath:
    """Where the camera looks at each sub-frame, relative to the middle of the exposure.

    Things far away move by ``turn`` alone, the nearest ones by ``shift``, and those between by a mean of the two that
    is weighted with their inverse depth.

    Attributes:
        shift: Shape (sub-frames, 2), float64: x to the right and y downwards, in pixels of the photograph. The number
            of sub-frames is odd and the middle one is (0, 0).
        roll: Shape (sub-frames,), float64: rotation about the centre of the picture in radians, 0 in the middle.
        turn: Shape (sub-frames, 2), float64: the part of ``shift`` that comes from pitch and yaw, as the centre of the
            picture shows it, (0, 0) in the middle. None: the camera does not turn.
        zoom: Shape (sub-frames,), float64: relative change of scale, 0 in the middle. None: none.
    """

    shift: np.ndarray
    roll: np.ndarray
    turn: np.ndarray | None = None
    zoom: np.ndarray | None = None

    @property
    def extent(self) -> float:
        """Largest distance between two positions of the path, in pixels."""
        return largest_distance(self.shift)

    @property
    def translation(self) -> np.ndarray:
        """The part of ``shift`` that comes from the camera's change of place, in pixels, shape (sub-frames, 2)."""
        return self.shift if self.turn is None else self.shift - self.turn

    def homographies(self) -> np.ndarray:
        """Describe what pitch, yaw, roll and zoom do.

        Returns:
            Shape (sub-frames, 3, 3), float64: from positions in the picture to those in the photograph, both in pixels
            from the centre of the picture.
        """
        scale = np.ones_like(self.roll) if self.zoom is None else 1 + self.zoom
        matrices = np.zeros((len(self.roll), 3, 3))
        matrices[:, 0, 0] = matrices[:, 1, 1] = scale * np.cos(self.roll)
        matrices[:, 1, 0] = scale * np.sin(self.roll)
        matrices[:, 0, 1] = -matrices[:, 1, 0]
        matrices[:, 2, 2] = 1
        return matrices if self.turn is None else _turned(self.turn) @ matrices


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
    shift = draw_positions(generator, extent, count)
    max_roll = MAX_ROLL_PER_PIXEL * extent
    return CameraPath(shift, 2 * exposure_times(count) * generator.uniform(-max_roll, max_roll))


def draw_positions(generator: np.random.Generator, extent: float, count: int) -> np.ndarray:
    """Draw a smooth path that is centred on its middle.

    Args:
        generator: Source of the random numbers.
        extent: Largest distance between two positions, in pixels.
        count: Number of positions, odd.

    Returns:
        Shape (count, 2), float64: x and y. The middle position and the mean of all are (0, 0).
    """
    time = exposure_times(count)
    heading = generator.uniform(0, 2 * np.pi)
    speed_change, bend = generator.normal(0, (0.5, 1.0))
    along, across = time + speed_change * time**3, bend * time**3
    drift = np.stack(
        (along * np.cos(heading) - across * np.sin(heading), along * np.sin(heading) + across * np.cos(heading)), axis=1
    )
    sway = _oscillation(generator, time, amplitude=0.12, cycles=(0.5, 1.5))
    tremor = _oscillation(generator, time, amplitude=0.02, cycles=(2.0, 4.0))
    positions = _centred(drift + sway + tremor, time)
    return positions * (extent / largest_distance(positions))


def exposure_times(count: int) -> np.ndarray:
    """Give the times of the sub-frames.

    Args:
        count: Number of sub-frames.

    Returns:
        Shape (count,), float64 in [-0.5, 0.5], in units of the exposure.
    """
    return np.linspace(-0.5, 0.5, count)


def border_margin(extent: float, height: int, width: int, zoom: float = 0, turns: bool = False) -> int:
    """Tell how much photograph is needed around a picture so that no sub-frame sees beyond its edge.

    Args:
        extent: Extent of the path in pixels.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        zoom: Largest relative change of scale.
        turns: Whether the camera has pitch and yaw.

    Returns:
        Pixels needed on each side.
    """
    corner = math.hypot(height, width) / 2
    bending = (corner / FOCAL_LENGTH) ** 2 if turns else 0
    return math.ceil(extent * (1 + MAX_ROLL_PER_PIXEL * corner + bending) + zoom * corner) + INTERPOLATION_BORDER


def largest_distance(positions: np.ndarray) -> float:
    """Measure a path.

    Args:
        positions: Places (x, y) in pixels, shape (positions, 2).

    Returns:
        Largest distance between two of them, in pixels.
    """
    return float(np.linalg.norm(positions[:, None] - positions[None], axis=-1).max())


def _turned(turn: np.ndarray) -> np.ndarray:
    """Homographies of a camera that yaws and pitches so that its centre moves by ``turn``."""
    yaw = np.arctan(turn[:, 0] / FOCAL_LENGTH)
    pitch = np.arctan(turn[:, 1] / FOCAL_LENGTH * np.cos(yaw))
    rotations = np.stack(
        [
            cv2.Rodrigues(np.array((0, y, 0)))[0] @ cv2.Rodrigues(np.array((-p, 0, 0)))[0]
            for y, p in zip(yaw, pitch, strict=True)
        ]
    )
    scaling = np.diag((FOCAL_LENGTH, FOCAL_LENGTH, 1))
    matrices = scaling @ rotations @ np.linalg.inv(scaling)
    return matrices / matrices[:, 2:, 2:]


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
