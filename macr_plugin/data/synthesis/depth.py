"""Made-up depth of a photograph: how strongly each place follows the camera's change of place."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

#: Kinds of scenes: all at one distance; a ground that comes nearer below a horizon; one slanted plane; smooth and
#: random.
Depth = Literal["flat", "ground", "slanted", "smooth"]

# Cells of the random grid that smooth depth is interpolated from: slopes stay gentle, so that no sub-frame folds over.
SMOOTH_GRID = 4


def draw_inverse_depth(generator: np.random.Generator, depth: Depth, height: int, width: int) -> np.ndarray | None:
    """Draw the inverse depth of a picture.

    Args:
        generator: Source of the random numbers.
        depth: Kind of scene.
        height: Height of the picture, in pixels.
        width: Width of the picture, in pixels.

    Returns:
        float32 array of shape (height, width): 0 for what is infinitely far away to 1 for what is nearest. None for a
        ``flat`` scene.
    """
    if depth == "flat":
        return None
    farthest = generator.uniform(0.0, 0.6)
    if depth == "smooth":
        nearness = _smooth(generator, height, width)
    else:
        heading = np.pi / 2 if depth == "ground" else generator.uniform(0, 2 * np.pi)
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        nearness = x * np.cos(heading) + y * np.sin(heading)
        if depth == "ground":
            horizon = generator.uniform(-1.5, 0.7)
            nearness = np.maximum(nearness, horizon)
    nearness = (nearness - nearness.min()) / max(np.ptp(nearness), 1e-6)
    return (farthest + (1 - farthest) * nearness).astype(np.float32)


def _smooth(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = generator.normal(size=(SMOOTH_GRID, SMOOTH_GRID)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
