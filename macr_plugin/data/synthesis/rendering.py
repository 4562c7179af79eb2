"""Motion blur rendered from sharp photographs, as a shaken camera makes it.

While the shutter is open the camera travels along a smooth path. The photograph is resampled at every point of the
path, and the average of these sub-frames is the blurred picture: in light, which is what a sensor collects, or of the
encoded values, as GoPro's ``blur`` was made. The sharp picture is the sub-frame at the middle of the exposure: an exact
cut-out of the photograph, up to what moves on its own in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from macr_plugin.data.synthesis.blur_model import Shot
from macr_plugin.data.synthesis.paths import CameraPath, border_margin
from macr_plugin.data.synthesis.response import decode, encode
from macr_plugin.errors import InputError
from macr_plugin.visualization import Box


def render_pair(photo: np.ndarray, shot: Shot, window: Box) -> tuple[np.ndarray, np.ndarray]:
    """Render the blurred and the sharp picture of a part of a photograph.

    Args:
        photo: uint8 array of shape (height, width, 3), BGR.
        shot: How it is taken.
        window: Which part of the photograph.

    Returns:
        The blurred and the sharp picture: uint8 arrays of shape (window.height, window.width, 3), BGR.

    Raises:
        InputError: The photograph ends too close to the window for this path.
    """
    surroundings = decode(_with_margin(photo, shot.path, window), shot.averaging)
    layer = shot.moving.layer(shot.averaging, window.height, window.width) if shot.moving else None
    total = np.zeros((window.height, window.width, 3), np.float32)
    for index, subframe in enumerate(_looks(surroundings, shot, window)):
        if layer and shot.moving:
            layer.cover(subframe, shot.moving.shift[index])
        cv2.accumulate(subframe, total)
    light = shot.sensor.expose(total / len(shot.path.shift), shot.averaging)
    blur = shot.sensor.compress(encode(light, shot.averaging))
    return blur, sharp_picture(photo, shot, window)


def sharp_picture(photo: np.ndarray, shot: Shot, window: Box) -> np.ndarray:
    """Cut the sharp picture out of a photograph, and put in front of it what moves on its own.

    Args:
        photo: uint8 array of shape (height, width, 3), BGR.
        shot: How it is taken.
        window: Which part of the photograph.

    Returns:
        uint8 array of shape (window.height, window.width, 3), BGR.
    """
    sharp = photo[window.top : window.top + window.height, window.left : window.left + window.width].copy()
    layer = shot.moving.layer(shot.averaging, window.height, window.width) if shot.moving else None
    if layer is None:
        return sharp
    light = decode(sharp, shot.averaging)
    layer.cover(light, np.zeros(2))
    return encode(light, shot.averaging)


def _with_margin(photo: np.ndarray, path: CameraPath, window: Box) -> np.ndarray:
    margin = _margin(path, window)
    top, left = window.top - margin, window.left - margin
    bottom, right = window.top + window.height + margin, window.left + window.width + margin
    if top < 0 or left < 0 or bottom > photo.shape[0] or right > photo.shape[1]:
        raise InputError(
            f"{window} needs {margin} pixels around it in a photograph of {photo.shape[1]}x{photo.shape[0]}: "
            "take a larger photograph or a smaller extent"
        )
    return photo[top:bottom, left:right]


def _margin(path: CameraPath, window: Box) -> int:
    zoom = 0.0 if path.zoom is None else float(np.abs(path.zoom).max())
    return border_margin(path.extent, window.height, window.width, zoom, path.turn is not None)


def _looks(surroundings: np.ndarray, shot: Shot, window: Box) -> Iterator[np.ndarray]:
    """What the camera sees at each sub-frame, without what moves on its own."""
    centre = np.array((surroundings.shape[1] - 1, surroundings.shape[0] - 1)) / 2
    positions = zip(shot.path.homographies(), shot.path.translation, strict=True)
    if shot.inverse_depth is None:
        for homography, translation in positions:
            yield _look(surroundings, homography, centre + translation, window)
        return
    x = np.arange(window.width, dtype=np.float32) - np.float32((window.width - 1) / 2)
    y = (np.arange(window.height, dtype=np.float32) - np.float32((window.height - 1) / 2))[:, None]
    for homography, translation in positions:
        (x_x, x_y, x_1), (y_x, y_y, y_1), (w_x, w_y, w_1) = homography.astype(np.float32)
        weight = w_x * x + (w_y * y + w_1)
        towards = translation.astype(np.float32)
        map_x = (x_x * x + (x_y * y + x_1)) / weight + (towards[0] * shot.inverse_depth + np.float32(centre[0]))
        map_y = (y_x * x + (y_y * y + y_1)) / weight + (towards[1] * shot.inverse_depth + np.float32(centre[1]))
        yield cv2.remap(surroundings, map_x, map_y, cv2.INTER_CUBIC)


def _look(surroundings: np.ndarray, homography: np.ndarray, centre: np.ndarray, window: Box) -> np.ndarray:
    """A sub-frame in which everything is at one distance."""
    from_corner = np.array(((1, 0, -(window.width - 1) / 2), (0, 1, -(window.height - 1) / 2), (0, 0, 1)))
    to_corner = np.array(((1, 0, centre[0]), (0, 1, centre[1]), (0, 0, 1)))
    matrix = to_corner @ homography @ from_corner
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(surroundings, matrix, (window.width, window.height), flags=flags)
