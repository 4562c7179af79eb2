"""Pictures for people: the same frame side by side, with captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

CAPTION_HEIGHT = 28
GAP = 4
BACKGROUND = 255
INK = (32, 32, 32)


def side_by_side(pictures: Mapping[str, Picture], max_side: int = 480) -> Picture:
    """Put pictures of one size next to each other, a caption above each.

    Args:
        pictures: Caption to picture, each (H, W, 3) uint8 BGR.
        max_side: Larger pictures are cut to their middle of this height and width, never scaled: scaling hides blur.

    Returns:
        One picture, uint8 BGR.
    """
    columns = [_with_caption(_middle(picture, max_side), caption) for caption, picture in pictures.items()]
    return _join(columns, axis=1)


def stack(rows: Sequence[Picture]) -> Picture:
    """Put rows below each other, the narrower ones filled up with background.

    Args:
        rows: Pictures (H, W, 3) uint8 BGR.

    Returns:
        One picture, uint8 BGR.
    """
    width = max(row.shape[1] for row in rows)
    return _join([_fill(row, row.shape[0], width) for row in rows], axis=0)


def _middle(picture: Picture, max_side: int) -> Picture:
    height, width = picture.shape[:2]
    top, left = max(0, height - max_side) // 2, max(0, width - max_side) // 2
    return picture[top : top + max_side, left : left + max_side]


def _with_caption(picture: Picture, caption: str) -> Picture:
    strip = np.full((CAPTION_HEIGHT, picture.shape[1], 3), BACKGROUND, np.uint8)
    cv2.putText(strip, caption, (6, CAPTION_HEIGHT - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    return np.vstack([strip, picture])


def _join(pictures: Sequence[Picture], axis: int) -> Picture:
    """Concatenate with a gap of background between the pictures."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, BACKGROUND, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=axis)


def _fill(picture: Picture, height: int, width: int) -> Picture:
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas
