"""Pictures for people: the same frame side by side, with captions and enlarged details."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# Of a caption of one line, and what each further line adds.
CAPTION_HEIGHT, LINE_HEIGHT = 28, 16
CAPTION_MARGIN = 6
FONT = cv2.FONT_HERSHEY_SIMPLEX
# From the usual size of letters down to the smallest that can be read.
FONT_SCALES = (0.5, 0.45, 0.4)
GAP = 4
BACKGROUND = 255
INK = (32, 32, 32)
# Blue-green that stands out on photographs and differs in lightness too, BGR.
MARK = (180, 220, 0)
# Of the colour wheel that explains a motion field, in pixels.
WHEEL_RADIUS = 40
WHEEL_TEXT_WIDTH = 160


class Box(NamedTuple):
    """A rectangle of pixels in a picture.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
    """

    top: int
    left: int
    height: int
    width: int

    def cut(self, picture: Picture) -> Picture:
        """Cut the rectangle out of a picture (H, W, 3), uint8 BGR."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]

    def around(self, picture_size: tuple[int, int], size: tuple[int, int]) -> Box:
        """Grow or shrink about the centre, moved so that it lies in the picture.

        Args:
            picture_size: Height and width of the picture.
            size: Height and width wished for; no more than the picture has is taken.
        """
        height, width = (min(one, limit) for one, limit in zip(size, picture_size, strict=True))
        top = self.top + self.height // 2 - height // 2
        left = self.left + self.width // 2 - width // 2
        top, left = (max(0, start) for start in (top, left))
        return Box(min(top, picture_size[0] - height), min(left, picture_size[1] - width), height, width)

    def within(self, outer: Box) -> Box:
        """Give the same rectangle in the coordinates of another one that was cut out."""
        return Box(self.top - outer.top, self.left - outer.left, self.height, self.width)


def side_by_side(pictures: Mapping[str, Picture], max_side: int = 480) -> Picture:
    """Put pictures of one size next to each other, a caption above each.

    A caption wider than its picture makes the letters of all captions smaller, and goes on in further lines where the
    smallest letters are still too wide.

    Args:
        pictures: Caption to picture, each (H, W, 3) uint8 BGR.
        max_side: Larger pictures are cut to their middle of this height and width, never scaled: scaling hides blur.

    Returns:
        One picture, uint8 BGR.
    """
    shown = [_middle(picture, max_side) for picture in pictures.values()]
    strips = _caption_strips(list(pictures), min(picture.shape[1] for picture in shown))
    columns = [
        np.vstack([_fill(strip, strip.shape[0], picture.shape[1]), picture])
        for strip, picture in zip(strips, shown, strict=True)
    ]
    return _join(columns, axis=1)


def detail_box(blurred: Picture, sharp: Picture, size: tuple[int, int]) -> Box:
    """Find where the blur took most detail away.

    Rule: of all rectangles of that size, the one over which the mean absolute difference between the Laplacians (3x3,
    of the grey pictures) of blurred and sharp is largest.

    Args:
        blurred: Picture (H, W, 3) uint8 BGR.
        sharp: The same without blur.
        size: Height and width of the rectangle; no more than the picture has is taken.

    Returns:
        The rectangle.
    """
    details = [
        cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_32F, ksize=3) for picture in (blurred, sharp)
    ]
    height, width = (min(one, limit) for one, limit in zip(size, sharp.shape, strict=False))
    sums = cv2.integral(cv2.absdiff(*details), sdepth=cv2.CV_64F)
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(totals.argmax(), totals.shape)
    return Box(int(top), int(left), height, width)


def with_inset(picture: Picture, box: Box) -> Picture:
    """Mark a detail of a picture and show it enlarged below.

    Args:
        picture: (H, W, 3) uint8 BGR.
        box: The detail, no wider than the picture. It is enlarged by the largest whole number at which it still fits
            below the picture, pixels repeated, since interpolation would add blur.

    Returns:
        (H', W, 3) uint8 BGR, the picture on top, the detail framed in the same colour as its mark.
    """
    width = picture.shape[1]
    factor = max(1, width // box.width)
    enlarged = np.ascontiguousarray(box.cut(picture).repeat(factor, axis=0).repeat(factor, axis=1))
    cv2.rectangle(enlarged, (0, 0), (enlarged.shape[1] - 1, enlarged.shape[0] - 1), MARK, 2)
    marked = picture.copy()
    cv2.rectangle(marked, (box.left, box.top), (box.left + box.width - 1, box.top + box.height - 1), MARK, 2)
    return stack([marked, enlarged])


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


def font_scale(texts: Sequence[str], width: int, scales: Sequence[float] = FONT_SCALES) -> float:
    """Choose the size of letters in which lines of text fit.

    Args:
        texts: The lines.
        width: Room for each, in pixels.
        scales: Sizes as OpenCV counts them, the largest first.

    Returns:
        The largest size in which all lines fit; the last one if none does.
    """
    widest = {scale: max(_text_width(text, scale) for text in texts) for scale in scales}
    return next((scale for scale in scales if widest[scale] <= width), scales[-1])


def wrap_text(text: str, width: int, scale: float) -> list[str]:
    """Break a text into lines: behind a space, ``/`` or ``_``, and within words that are wider than a line.

    Args:
        text: Without line ends.
        width: Room for each line, in pixels.
        scale: Size of the letters as OpenCV counts them.

    Returns:
        The lines; a letter that is wider than a line has one of its own.
    """
    lines = [""]
    for word in re.findall(r"[^ /_]*[ /_]|[^ /_]+", text):
        if lines[-1] and _text_width((lines[-1] + word).rstrip(), scale) > width:
            lines.append("")
        for letter in word:
            if lines[-1] and _text_width((lines[-1] + letter).rstrip(), scale) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _caption_strips(captions: Sequence[str], width: int) -> list[Picture]:
    """Write captions in letters of one size on strips of one height."""
    room = width - 2 * CAPTION_MARGIN
    scale = font_scale(captions, room)
    wrapped = [wrap_text(caption, room, scale) for caption in captions]
    height = CAPTION_HEIGHT + LINE_HEIGHT * (max(len(lines) for lines in wrapped) - 1)
    strips = [np.full((height, width, 3), BACKGROUND, np.uint8) for _ in captions]
    for strip, lines in zip(strips, wrapped, strict=True):
        for row, line in enumerate(lines):
            place = (CAPTION_MARGIN, CAPTION_HEIGHT - 9 + LINE_HEIGHT * row)
            cv2.putText(strip, line, place, FONT, scale, INK, 1, cv2.LINE_AA)
    return strips


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, FONT, scale, 1)[0][0]


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


def motion_picture(field: NDArray[np.floating], longest: float | None = None) -> Picture:
    """Paint a field of straight motions in colours, with the colour wheel that explains them below it.

    The hue is the direction of a motion, whichever way it is walked; the fuller the colour, the longer the motion, and
    white is none.

    Args:
        field: Motions (x, y) in pixels, y downwards, shape (H, W, 2).
        longest: Length in pixels that has the full colour. Default: the longest motion of the field.

    Returns:
        (H', W', 3) uint8 BGR: the field, and below it the legend.
    """
    longest = longest or max(1.0, float(np.linalg.norm(field, axis=-1).max()))
    return stack([_motion_colours(field, longest), _motion_legend(longest)])


def _motion_colours(field: NDArray[np.floating], longest: float) -> Picture:
    # v and -v blur alike: the angle is doubled, so that both have one hue.
    degrees = np.degrees(2 * np.arctan2(field[..., 1], field[..., 0])) % 360
    fullness = np.minimum(np.linalg.norm(field, axis=-1) / longest, 1)
    hsv = np.stack([degrees, fullness, np.ones_like(fullness)], axis=-1).astype(np.float32)
    return np.rint(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)).astype(np.uint8)


def _motion_legend(longest: float) -> Picture:
    """A wheel of all motions: each point has the colour of the motion from the centre to it."""
    place = np.arange(2 * WHEEL_RADIUS + 1) - WHEEL_RADIUS
    motions = np.stack(np.meshgrid(place, place), axis=-1) * (longest / WHEEL_RADIUS)
    wheel = _motion_colours(motions, longest)
    wheel[np.linalg.norm(motions, axis=-1) > longest] = BACKGROUND
    cv2.circle(wheel, (WHEEL_RADIUS, WHEEL_RADIUS), WHEEL_RADIUS, INK, 1, cv2.LINE_AA)
    text = np.full((wheel.shape[0], WHEEL_TEXT_WIDTH, 3), BACKGROUND, np.uint8)
    for row, line in enumerate((f"rim: {longest:.0f} px", "white: no motion")):
        place_of_line = (8, WHEEL_RADIUS - 4 + 20 * row)
        cv2.putText(text, line, place_of_line, FONT, FONT_SCALES[0], INK, 1, cv2.LINE_AA)
    return np.hstack([wheel, text])
