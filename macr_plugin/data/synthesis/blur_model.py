"""The settings of rendered blur, and what is drawn from them for one pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from macr_plugin.data.synthesis.depth import Depth, draw_inverse_depth
from macr_plugin.data.synthesis.objects import MovingObject, draw_shape, fit_cut_out, read_cut_out
from macr_plugin.data.synthesis.paths import (
    CameraPath,
    border_margin,
    check_extent,
    draw_camera_path,
    draw_positions,
    exposure_times,
    subframe_count,
)
from macr_plugin.data.synthesis.response import Averaging
from macr_plugin.data.synthesis.sensor import Sensor
from macr_plugin.data.synthesis.source_photos import list_photos
from macr_plugin.errors import InputError

DEFAULT_EXTENT = (4.0, 12.0)
# Neighbouring sub-frames are then less than a pixel apart. Five times as many change a picture by less than 8-bit
# rounding does: 64 dB between the two in the median, 58 dB at the least.
SUBFRAMES_PER_PIXEL = 3
# Spread of the logarithm of the extent of hand-held blur.
LOG_EXTENT_SPREAD = 0.6
# Extent of what makes the path of near things another one than that of far things, in parts of the whole.
SIDE_PATH = 0.3
MAX_ZOOM = 0.01

PhotoSource = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Shot:
    """Everything that is drawn for one pair.

    Attributes:
        path: Path of the camera during the exposure.
        averaging: What the sub-frames are averaged in.
        inverse_depth: float32 array of the size of the picture, 0 for what is infinitely far away to 1 for what is
            nearest. None: everything is at one distance, and follows ``path.shift``.
        moving: What moves on its own.
        sensor: Noise and compression of the blurred picture.
    """

    path: CameraPath
    averaging: Averaging = "linear"
    inverse_depth: np.ndarray | None = None
    moving: MovingObject | None = None
    sensor: Sensor = field(default_factory=Sensor)


@dataclass(frozen=True)
class BlurModel:
    """What blur is drawn from; the defaults are one shift with a little roll for the whole picture.

    Attributes:
        extent: Smallest and largest extent of a path in pixels.
        median: Median of the extents, which are then distributed like those of hand-held shots (log-normal), cut off at
            ``extent``. None: all extents between the two are equally frequent.
        sharp_share: Share of the pairs that have no blur at all.
        averaging: What the sub-frames are averaged in, one drawn for each pair.
        depth: Kinds of scenes, one drawn for each pair.
        turn_share: Smallest and largest part of the path that comes from pitch and yaw, which move everything, however
            far away; the rest comes from a change of place, which moves what is near.
        zoom: Largest relative change of scale until either end of the exposure, for each pixel of extent.
        object_share: Share of the pairs in which something moves on its own.
        object_folder: Folder of pictures with alpha that move; None: random soft shapes filled from another photograph.
        photon_noise: Smallest and largest noise that grows with the light, see :class:`~.sensor.Sensor`.
        read_noise: Smallest and largest noise of the read-out, see :class:`~.sensor.Sensor`.
        jpeg_share: Share of the pairs whose blurred picture went through JPEG.
        jpeg_quality: Smallest and largest quality of it.
    """

    extent: tuple[float, float] = DEFAULT_EXTENT
    median: float | None = None
    sharp_share: float = 0.0
    averaging: tuple[Averaging, ...] = ("linear",)
    depth: tuple[Depth, ...] = ("flat",)
    turn_share: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0
    object_share: float = 0.0
    object_folder: str | None = None
    photon_noise: tuple[float, float] = (0.0, 0.0)
    read_noise: tuple[float, float] = (0.0, 0.0)
    jpeg_share: float = 0.0
    jpeg_quality: tuple[int, int] = (80, 98)

    def margin(self, height: int, width: int) -> int:
        """Tell how much photograph is needed around a picture.

        Args:
            height: Height of the picture, in pixels.
            width: Width of the picture, in pixels.

        Returns:
            Pixels needed on each side for the largest blur.
        """
        largest = self.extent[1]
        return border_margin(largest, height, width, self.zoom * largest, self.turn_share[1] > 0)

    def draw_extent(self, generator: np.random.Generator) -> float:
        """Draw the extent of a path.

        Args:
            generator: Source of the random numbers.

        Returns:
            Pixels.
        """
        if self.median is None:
            extent = generator.uniform(*self.extent)
        else:
            extent = float(np.clip(self.median * np.exp(generator.normal(0, LOG_EXTENT_SPREAD)), *self.extent))
        return 0.0 if self.sharp_share and generator.random() < self.sharp_share else extent

    def draw_shot(
        self,
        generator: np.random.Generator,
        extent: float,
        size: tuple[int, int],
        draw_photo: PhotoSource,
        subframes: int | None = None,
    ) -> Shot:
        """Draw all that makes one pair.

        What one setting adds is drawn from a generator of its own, so that it changes nothing that the others give.

        Args:
            generator: Source of the random numbers.
            extent: Largest distance between two positions of the camera, in pixels.
            size: Height and width of the picture.
            draw_photo: Gives another photograph, which fills moving shapes.
            subframes: Number of sub-frames, odd. Default: 3 for each pixel of the longest path.

        Returns:
            The shot.
        """
        camera, scene, things, sensor, choice = (
            np.random.default_rng(seed) for seed in generator.integers(2**63, size=5)
        )
        moves = extent > 0 and things.random() < self.object_share
        object_extent = self.draw_extent(things) if moves else 0.0
        count = subframes or subframe_count(max(extent, object_extent), SUBFRAMES_PER_PIXEL)
        averaging: Averaging = self.averaging[int(choice.integers(len(self.averaging)))]
        depth: Depth = self.depth[int(choice.integers(len(self.depth)))]
        return Shot(
            self._draw_path(generator, camera, extent, count),
            averaging,
            draw_inverse_depth(scene, depth, *size) if self.turn_share[0] < 1 else None,
            self._draw_object(things, object_extent, count, size, draw_photo) if moves else None,
            self._draw_sensor(sensor),
        )

    def _draw_path(
        self, generator: np.random.Generator, camera: np.random.Generator, extent: float, count: int
    ) -> CameraPath:
        path = draw_camera_path(generator, extent, count)
        zoom = 2 * exposure_times(count) * camera.uniform(-1, 1) * self.zoom * extent if self.zoom else None
        if self.turn_share[1] == 0:
            return CameraPath(path.shift, path.roll, zoom=zoom)
        share = camera.uniform(*self.turn_share)
        # Never longer than the whole path: what is far away moves no more than what is near.
        aside = draw_positions(camera, min(SIDE_PATH, share, 1 - share) * extent, count)
        return CameraPath(path.shift, path.roll, share * path.shift + aside, zoom)

    def _draw_object(
        self,
        generator: np.random.Generator,
        extent: float,
        count: int,
        size: tuple[int, int],
        draw_photo: PhotoSource,
    ) -> MovingObject:
        if self.object_folder is None:
            cut_out = draw_shape(generator, *size, draw_photo)
        else:
            files = list_photos(Path(self.object_folder), recursive=False)
            cut_out = fit_cut_out(generator, read_cut_out(files[int(generator.integers(len(files)))]), size[0])
        # Half of it may lie outside the picture.
        top, left = (
            int(generator.integers(-(own // 2), max(whole - own // 2, 1 - own // 2)))
            for own, whole in zip(cut_out.shape, size, strict=False)
        )
        return MovingObject(cut_out, top, left, draw_positions(generator, extent, count))

    def _draw_sensor(self, generator: np.random.Generator) -> Sensor:
        compressed = generator.random() < self.jpeg_share
        quality = int(generator.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1))
        return Sensor(
            generator.uniform(*self.photon_noise),
            generator.uniform(*self.read_noise),
            int(generator.integers(2**31)),
            quality if compressed else None,
        )


#: Blur like that of hand-held cameras: differs from place to place, from none to 40 pixels, with noise and compression.
REALISTIC = BlurModel(
    extent=(0.0, 40.0),
    median=10.0,
    sharp_share=0.1,
    averaging=get_args(Averaging),
    depth=get_args(Depth),
    turn_share=(0.2, 1.0),
    zoom=3e-4,
    object_share=0.3,
    photon_noise=(0.0, 2.0),
    read_noise=(0.0, 0.1),
    jpeg_share=0.2,
)
SETTINGS = tuple(attribute.name for attribute in fields(BlurModel))


def blur_model(
    given: Mapping[str, Any], realistic: bool = False, name: Callable[[str], str] = "the setting {}".format
) -> BlurModel:
    """Make a blur model of settings that a user gave.

    Args:
        given: Some of the attributes of :class:`BlurModel`, lists in place of tuples. Where one alternative is meant,
            ``averaging`` and ``depth`` may be plain names.
        realistic: What the others are: those of ``REALISTIC``, or the defaults.
        name: Names a setting for messages.

    Returns:
        The model.

    Raises:
        InputError: A setting cannot be used.
    """
    base = REALISTIC if realistic else BlurModel()
    values = {setting: getattr(base, setting) for setting in SETTINGS}
    values.update({setting: value for setting, value in given.items() if value is not None or setting == "median"})
    check_extent(values["extent"], name("extent"))
    for setting, known in (("averaging", get_args(Averaging)), ("depth", get_args(Depth))):
        values[setting] = _check_names(values[setting], known, name(setting))
    for setting, smallest, largest in (
        ("turn_share", 0, 1),
        ("photon_noise", 0, 255),
        ("read_noise", 0, 255),
        ("jpeg_quality", 1, 100),
    ):
        values[setting] = _check_range(values[setting], smallest, largest, name(setting))
    if not all(isinstance(end, int) for end in values["jpeg_quality"]):
        raise InputError(f"{name('jpeg_quality')} {values['jpeg_quality']}: give whole numbers")
    for setting in ("sharp_share", "object_share", "jpeg_share"):
        _check_number(values[setting], 1, name(setting))
    _check_number(values["zoom"], MAX_ZOOM, name("zoom"))
    if values["median"] is not None:
        _check_number(values["median"], math.inf, name("median"))
    if values["object_folder"] is not None:
        values["object_folder"] = str(values["object_folder"])
        list_photos(Path(values["object_folder"]), recursive=False)
    return BlurModel(**{**values, "extent": tuple(values["extent"])})


def _check_names(value: Any, known: Sequence[str], name: str) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for one in names:
        if one not in known:
            raise InputError(f"{name} is {one}: choose {' or '.join(known)}")
    if not names:
        raise InputError(f"{name} is empty: choose {' or '.join(known)}")
    return names


def _check_range(value: Any, smallest: float, largest: float, name: str) -> tuple[Any, Any]:
    if not (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(map(_is_number, value))
        and smallest <= value[0] <= value[1] <= largest
    ):
        raise InputError(
            f"{name} {value} is no range: give two numbers from {smallest:g} to {largest:g}, the smaller one first"
        )
    return value[0], value[1]


def _check_number(value: Any, largest: float, name: str) -> None:
    if not (_is_number(value) and 0 <= value <= largest):
        raise InputError(f"{name} is {value}: give a number from 0 to {largest:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
