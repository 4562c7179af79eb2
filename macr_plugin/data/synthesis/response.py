"""Response curves: how the values of a picture and the light that the sub-frames are averaged in belong together."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

#: What the sub-frames are averaged in: ``linear`` light behind an sRGB picture, as in GoPro's ``blur_gamma``; the
#: ``encoded`` values of the photograph, as in GoPro's ``blur``; light behind a plain power of 2.2; or sRGB light whose
#: ``highlights`` a camera has compressed, so that bright lights leave streaks.
Averaging = Literal["linear", "encoded", "gamma2.2", "highlights"]

GAMMA = 2.2
# Light from which on highlights are compressed, and the light behind a value of 255, which stands for anything brighter
# than the sensor can tell.
HIGHLIGHT_KNEE = 0.7
HIGHLIGHT_PEAK = 4.0


def decode(picture: np.ndarray, averaging: Averaging) -> np.ndarray:
    """Turn the values of a picture into what is averaged.

    Args:
        picture: uint8 array of any shape.
        averaging: What that is.

    Returns:
        float32 array of the same shape: 0 to 1, or to ``HIGHLIGHT_PEAK`` with ``highlights``.
    """
    return response_table(averaging)[picture]


@functools.cache
def response_table(averaging: Averaging) -> np.ndarray:
    """Light of each value.

    Args:
        averaging: What the light is measured in.

    Returns:
        float32 array of shape (256,), increasing, at least 0.
    """
    value = np.arange(256) / 255
    if averaging == "encoded":
        light = value
    elif averaging == "gamma2.2":
        light = value**GAMMA
    else:
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    if averaging == "highlights":
        room = 1 - HIGHLIGHT_KNEE
        left = np.maximum(1 - light, room * np.exp((HIGHLIGHT_KNEE - HIGHLIGHT_PEAK) / room))
        light = np.where(light > HIGHLIGHT_KNEE, HIGHLIGHT_KNEE - room * np.log(left / room), light)
    return light.astype(np.float32)


def encode(light: np.ndarray, averaging: Averaging) -> np.ndarray:
    """Turn averaged light into the values of a picture.

    Args:
        light: float32 array of any shape; values without a code are clipped.
        averaging: What the light is measured in.

    Returns:
        uint8 array of the same shape.
    """
    if averaging == "highlights":
        room = 1 - HIGHLIGHT_KNEE
        # The shoulder continues the straight line with its slope and comes close to 1.
        shoulder = 1 - room * np.exp((HIGHLIGHT_KNEE - np.maximum(light, HIGHLIGHT_KNEE)) / room)
        light = np.where(light > HIGHLIGHT_KNEE, shoulder, light)
    value = np.clip(light, 0, 1)
    if averaging == "gamma2.2":
        value = value ** (1 / GAMMA)
    elif averaging != "encoded":
        value = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.rint(255 * value).astype(np.uint8)
