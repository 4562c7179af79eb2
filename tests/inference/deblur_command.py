"""``macr deblur`` within this process, and the files around it."""

from pathlib import Path

import cv2
from saved_pictures import save_picture

from macr_plugin.cli import main


def write(path, picture):
    return save_picture(Path(path), picture[..., ::-1])


def deblur(weights, *arguments):
    return main(["deblur", "--weights", str(weights), "--precision", "fp32", *map(str, arguments)])


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def read(path):
    return cv2.imread(str(path))[..., ::-1]
