"""Measure what reading and writing add to the network's own time when a folder is deblurred.

python scripts/benchmark_deblur.py [--weights macr-small] [--pictures 40] [--size 720 1280] [--format png] [--rounds 3]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from measurement import now

from macr_plugin.errors import one_line_errors
from macr_plugin.inference.batch import Settings, deblur_files
from macr_plugin.inference.deblurrer import DEFAULT_WEIGHTS, Deblurrer
from macr_plugin.inference.memory import keep_freed_memory
from macr_plugin.inference.pictures import read_picture
from macr_plugin.inference.restorer import device_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, help="as for macr deblur (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--precision", default="auto", help="default: %(default)s")
    parser.add_argument("--pictures", type=int, default=40, help="how many (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=[720, 1280], help="height and width (default: 720 1280)")
    parser.add_argument("--format", default="png", choices=("png", "jpg"), help="default: %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=3, help="network, folder, network in turns (default: %(default)s)"
    )
    arguments = parser.parse_args()
    settings = Settings(arguments.weights, arguments.device, arguments.precision)
    with tempfile.TemporaryDirectory() as folder, one_line_errors("benchmark_deblur"):
        source = Path(folder, "source")
        write_pictures(source, arguments.pictures, arguments.size, arguments.format)
        keep_freed_memory()
        deblurrer = Deblurrer(arguments.weights, arguments.device, arguments.precision)
        pictures = [read_picture(path).pixels for path in sorted(source.iterdir())]
        deblurrer.restore(pictures[0])
        ratios = []
        for number in range(arguments.rounds):
            # The folder between the two halves: a machine that slows down meanwhile slows down both.
            times = [now()]
            for picture in pictures[::2]:
                deblurrer.restore(picture)
            times.append(now())
            deblur_files([str(source)], Path(folder, f"out{number}"), settings)
            times.append(now())
            for picture in pictures[1::2]:
                deblurrer.restore(picture)
            times.append(now())
            first, whole, second = (end - start for start, end in itertools.pairwise(times))
            network = first + second
            ratios.append(whole / network)
            print(f"network {network:.2f} s, folder with loading the network {whole:.2f} s, ratio {ratios[-1]:.3f}")
        print(
            f"median ratio {statistics.median(ratios):.3f}: {arguments.pictures} {arguments.format} pictures of "
            f"{arguments.size[1]}x{arguments.size[0]}, {deblurrer.precision}, batch 1, {device_name(deblurrer.device)}"
        )


def write_pictures(folder: Path, count: int, size: list[int], suffix: str) -> None:
    """Parts of a photograph, enlarged and with a camera's noise, which costs an encoder time."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    photo = skimage.data.astronaut()[..., ::-1]
    for number in range(count):
        picture = cv2.resize(np.roll(photo, 7 * number, axis=1), tuple(size[::-1])).astype(np.float32)
        picture += generator.normal(0, 2, picture.shape).astype(np.float32)
        cv2.imwrite(str(folder / f"{number:04d}.{suffix}"), picture.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
