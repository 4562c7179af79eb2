r"""Show what weights do to the demo's test pictures: blurred, restored and sharp side by side, with an enlarged detail.

python scripts/demo_picture.py --weights experiments/macr_demo="trained here" --shipped --out demo.png

`make demo` ends with it. README's picture, of a photograph of another kind:

macr synthesize --photos .venv/lib/python3*/site-packages/skimage/data/astronaut.png --out datasets/astronaut/test \
    --extent 6 8 --size 360 400 --pairs 6 --seed 3
python scripts/demo_picture.py --pairs datasets/astronaut/test --frames astronaut/000001 --weights macr-small=restored \
    --out docs/deblur.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from macr_plugin.cli.synthesize import DEMO_FOLDER
from macr_plugin.data.pairs import ImagePair, read_pair
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.errors import FREE_DISK_SPACE, InputError, one_line_errors
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.inference.deblurrer import Deblurrer
from macr_plugin.metrics.psnr_ssim import psnr
from macr_plugin.visualization import Picture, detail_box, side_by_side, stack, with_inset
from macr_plugin.weights.shipped import shipped_names

# Narrow enough for four of them to be read without scrolling.
SIDE = 256
DETAIL = (64, 85)
JPEG_QUALITY = 92


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights",
        nargs="+",
        required=True,
        metavar="WEIGHTS[=CAPTION]",
        help="name of shipped weights, file, or folder of a training; the last one chooses the detail",
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        default=DEMO_FOLDER / "test",
        metavar="DIR",
        help="pairs in GoPro's layout (default: %(default)s)",
    )
    parser.add_argument("--shipped", action="store_true", help="add the weights that come with the package")
    parser.add_argument(
        "--frames", nargs="+", metavar="KEY", help="which of them, such as coffee/000001 (default: all)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write, .png or .jpg")
    arguments = parser.parse_args()
    if arguments.out.suffix not in (".png", ".jpg"):
        raise InputError(f"--out {arguments.out}: give a name that ends in .png or .jpg")
    restorers = load(arguments.weights, arguments.shipped)
    rows = [show(pair, restorers) for pair in chosen(find_pairs(arguments.pairs), arguments.frames)]
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if arguments.out.suffix == ".jpg" else []
    with atomic_write(arguments.out, FREE_DISK_SPACE) as file:
        file.write(cv2.imencode(arguments.out.suffix, stack(rows), options)[1].tobytes())
    print(f"Written: {arguments.out}")


def load(entries: list[str], shipped: bool) -> dict[str, Deblurrer]:
    """What restores under each caption, in order."""
    captions = {caption or weights: weights for weights, _, caption in (entry.partition("=") for entry in entries)}
    if shipped:
        captions |= {f"shipped {name}": name for name in shipped_names()}
    return {caption: Deblurrer(weights) for caption, weights in captions.items()}


def chosen(pairs: list[ImagePair], keys: list[str] | None) -> list[ImagePair]:
    """The pairs of some keys; all without keys."""
    by_key = {pair.key: pair for pair in pairs}
    for key in keys or ():
        if key not in by_key:
            raise InputError(f"--frames {key}: choose from {', '.join(by_key)}")
    return [by_key[key] for key in keys] if keys else pairs


def show(pair: ImagePair, restorers: dict[str, Deblurrer]) -> Picture:
    """All versions of a frame in one row, each with its PSNR and the detail in which they differ most."""
    blurred, sharp = read_pair(pair)
    restored = {
        caption: np.ascontiguousarray(restorer.restore(np.ascontiguousarray(blurred[..., ::-1]))[..., ::-1])
        for caption, restorer in restorers.items()
    }
    versions = {"blurred": blurred, **restored}
    best = list(restored.values())[-1]
    middle = detail_box(blurred, best, DETAIL).around(sharp.shape[:2], (SIDE, SIDE))
    detail = detail_box(middle.cut(blurred), middle.cut(best), DETAIL)
    columns = {f"{caption}, {measure(version, sharp):.2f} dB": version for caption, version in versions.items()}
    columns["sharp"] = sharp
    return side_by_side(
        {caption: with_inset(middle.cut(version), detail) for caption, version in columns.items()}, max_side=4 * SIDE
    )


def measure(picture: Picture, sharp: Picture) -> float:
    """PSNR of the whole frame, RGB, uint8."""
    tensors = (torch.from_numpy(np.ascontiguousarray(one.transpose(2, 0, 1)))[None] for one in (picture, sharp))
    return psnr(*tensors).item()


if __name__ == "__main__":
    with one_line_errors("demo_picture.py"):
        main()
