"""Picture files and pairs of them, as tests of all rooms need them on disk."""

import cv2
import numpy as np


def textured(height=90, width=120, seed=0):
    """A picture that blur changes everywhere: smoothed noise, (height, width, 3), uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1)


def save_picture(path, picture):
    """Write a picture file, and the folders above it; gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
    return path


def save_pair(scene, name, sharp, blurred=None):
    """Write a pair in GoPro's layout; the blurred picture is by default the sharp one with a box blur."""
    save_picture(scene / "sharp" / name, sharp)
    save_picture(scene / "blur" / name, cv2.blur(sharp, (5, 1)) if blurred is None else blurred)
