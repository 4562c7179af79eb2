"""Where the crops of a picture lie: the sub-images that training reads instead of whole frames."""

from __future__ import annotations

from dataclasses import dataclass

from macr_plugin.errors import InputError


@dataclass(frozen=True)
class CropGrid:
    """A grid of overlapping square crops that covers a picture.

    The defaults are those of NAFNet and Restormer: 8 crops from a frame of 1280x720.

    Attributes:
        size: Side of a crop in pixels.
        step: Distance between neighbours in pixels. The last row and column are moved inwards to end at the edge.

    Raises:
        InputError: A number is smaller than 1.
    """

    size: int = 512
    step: int = 256

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("step", self.step)):
            if value < 1:
                raise InputError(f"--crop-{name} is {value}: choose 1 or more")

    def corners(self, height: int, width: int) -> list[tuple[int, int]]:
        """List the upper left corners of the crops, row after row.

        Args:
            height: Height of the picture, in pixels.
            width: Width of the picture, in pixels.

        Returns:
            Pairs of top and left. Empty if the picture is smaller than a crop.
        """
        return [(top, left) for top in self._starts(height) for left in self._starts(width)]

    def _starts(self, length: int) -> list[int]:
        last = length - self.size
        if last < 0:
            return []
        starts = list(range(0, last + 1, self.step))
        return starts if starts[-1] == last else [*starts, last]
