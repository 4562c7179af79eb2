"""Measure how the costs of the data grow: reading a pair over crop and frame size, preparing over the number of frames.

Frames are a photograph blown up, with noise so that they compress as camera frames do. Reading is warm, in one process,
from an uncompressed LMDB, with flips and transpositions, uint8. Preparing is ``macr prepare gopro`` with both storages.
Both in processor time, of all threads together: what else the machine does counts little.

python scripts/benchmark_data_curves.py --json curves.json --plot curves.png
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from curves import Curve, draw_curves
from frames import NOISE
from measurement import add_output_options, check_plot, describe_machine, markdown_table, one_line, write_json
from tqdm import tqdm

from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.preparation.prepare import prepare_gopro
from macr_plugin.data.storage.lmdb_format import Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.errors import one_line_errors


def make_frame(height: int, width: int, seed: int) -> np.ndarray:
    """A frame of its own for every seed."""
    photo = cv2.resize(skimage.data.astronaut(), (width, height), interpolation=cv2.INTER_CUBIC)
    shifted = np.roll(photo, 17 * seed, axis=1)
    return np.clip(shifted + np.random.default_rng(seed).normal(0, NOISE, photo.shape), 0, 255).astype(np.uint8)


def store(root: Path, size: tuple[int, int], count: int) -> None:
    """Blurred and sharp frames of a size in uncompressed LMDBs."""
    for kind, offset in (("blur", 0), ("sharp", 1000)):
        frames = ((f"scene/{number:06d}", encode_png(make_frame(*size, number + offset))) for number in range(count))
        write_image_lmdb(root / f"{kind}.lmdb", frames, Storage("uncompressed"))


def read_cost(root: Path, crop: int, reads: int) -> float:
    """Milliseconds a pair, the median over single reads."""
    places = {"dataroot_lq": str(root / "blur.lmdb"), "dataroot_gt": str(root / "sharp.lmdb")}
    flips = {"use_hflip": True, "use_rot": True, "scale": 1, "manual_seed": 0, "uint8": True}
    opt = {"phase": "train", "gt_size": crop, "io_backend": {"type": "uncompressed_lmdb"}, **places, **flips}
    dataset = DeblurPairDataset(opt)
    times = []
    for number in range(-len(dataset), reads):
        start = time.process_time()
        dataset[number % len(dataset)]
        times.append(time.process_time() - start)
    # The first round brings the files into the page cache.
    return 1000 * statistics.median(times[len(dataset) :])


def prepare_cost(root: Path, size: tuple[int, int], count: int, storage: Any) -> float:
    """Seconds of preparing a training split of some frames."""
    for number in range(count):
        for kind, seed in (("blur", number), ("sharp", number + 1000)):
            file = root / "GoPro" / "train" / "GOPR0001_11_00" / kind / f"{number:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_png(make_frame(*size, seed)))
    start = time.process_time()
    prepare_gopro(root / "GoPro", root / "out", storage=storage, report=lambda line: None)
    return time.process_time() - start


def measure(arguments: argparse.Namespace, folder: Path) -> list[Curve]:
    """All curves."""
    crops, frames, counts = arguments.crops, arguments.frame_heights, arguments.counts
    progress = tqdm(total=len(crops) + len(frames) + 2 * len(counts), unit="point")

    def measured(value: float) -> float:
        progress.update()
        return value

    root = Path(tempfile.mkdtemp(dir=folder))
    store(root, (720, 1280), arguments.stored)
    reading = [measured(read_cost(root, crop, arguments.reads)) for crop in crops]
    by_frame = []
    for height in frames:
        root = Path(tempfile.mkdtemp(dir=folder))
        store(root, (height, height * 16 // 9), arguments.stored)
        by_frame.append(measured(read_cost(root, min(frames[0], 256), arguments.reads)))
    curves = [
        Curve("reading over the crop, 1280x720 frames", "megapixels of a crop", "ms a pair", mega(crops), reading),
        Curve(
            f"reading over the frame, crops of {min(frames[0], 256)}",
            "megapixels of a frame",
            "ms a pair",
            [height * (height * 16 // 9) / 1e6 for height in frames],
            by_frame,
        ),
    ]
    for storage in ("png", "uncompressed"):
        seconds = [
            measured(prepare_cost(Path(tempfile.mkdtemp(dir=folder)), arguments.prepared, count, storage))
            for count in counts
        ]
        curves.append(Curve(f"macr prepare gopro, {storage}", "pairs", "seconds", counts, seconds))
    progress.close()
    return curves


def mega(sides: Sequence[int]) -> list[float]:
    return [side * side / 1e6 for side in sides]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, nargs="+", default=[64, 128, 256, 384, 512, 640])
    parser.add_argument("--frame-heights", type=int, nargs="+", default=[360, 720, 1080, 1440, 2160])
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16, 32, 64], help="pairs to prepare")
    parser.add_argument("--prepared", type=int, nargs=2, default=[720, 1280], help="height and width of those")
    parser.add_argument("--stored", type=int, default=6, help="pairs that are read (default: 6)")
    parser.add_argument("--reads", type=int, default=120, help="reads of each point (default: 120)")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    add_output_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    check_plot(options.plot)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        curves = measure(options, Path(folder))
    machine = describe_machine()
    print(one_line(machine))
    for curve in curves:
        points = [[f"{x:.4g}", f"{y:.4g}"] for x, y in zip(curve.x, curve.y, strict=True)]
        print(f"\n{markdown_table([f'{curve.title}: {curve.x_label}', curve.y_label], points, texts=0)}")
    write_json(options.json, {"machine": machine, "curves": [one._asdict() for one in curves]})
    if options.plot:
        draw_curves(curves, f"{machine['processor']}, {machine['cores']} cores", options.plot)


if __name__ == "__main__":
    with one_line_errors("benchmark_data_curves"):
        main()
