"""Deblur every JPEG and PNG file of a folder, and tell how sharp each became.

python examples/deblur_folder.py holiday sharp

``macr deblur holiday -o sharp`` does more: it goes on where it was stopped, and reads every format and subfolder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from macr_plugin import Deblurrer


def sharpness(picture: np.ndarray) -> float:
    """Variance of the Laplacian of the brightness: larger where edges are sharper.

    Args:
        picture: Shape (H, W, 3), RGB, uint8.
    """
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def main(source: Path, target: Path) -> None:
    """Deblur the pictures of one folder into another, with the same names."""
    deblurrer = Deblurrer()  # the shipped weights, on the GPU if there is one
    for path in sorted(source.iterdir()):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            continue
        blurred = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        # Orientation, EXIF, colour profile and alpha are kept. Of an array alone: deblurrer.restore(blurred).
        restored = deblurrer.restore_file(path, target / path.name)
        print(f"{path.name}: sharpness {sharpness(blurred):.0f} -> {sharpness(restored.pixels):.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
