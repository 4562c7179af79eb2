"""Measure SyntheticMotionBlurDataset in one process: milliseconds a pair, and where they go.

python scripts/benchmark_synthesis.py --photos DIR [--size 256] [--extent 4 12] [--pairs 100]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import cv2
import torch

from macr_plugin.data import synthetic_motion_blur_dataset
from macr_plugin.data.drawn_index import DrawnIndex
from macr_plugin.data.synthesis.device_rendering import with_rendered_blur
from macr_plugin.data.synthetic_motion_blur_dataset import SyntheticMotionBlurDataset
from macr_plugin.errors import one_line_errors

STEPS = tuple((synthetic_motion_blur_dataset, name) for name in ("read_photo", "draw_camera_path", "render_pair"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, metavar="DIR", help="folder of sharp photographs")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures (default: %(default)s)")
    parser.add_argument("--extent", type=float, nargs=2, default=[4, 12], help="range of the blur (default: 4 12)")
    parser.add_argument("--pairs", type=int, default=100, help="pairs to render (default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=16, help="pairs rendered at once on a device (default: %(default)s)"
    )
    arguments = parser.parse_args()
    # One core, as a data loading process on a machine whose cores all load data.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    seconds = {name: time_calls(module, name) for module, name in STEPS}
    for render_on in ("cpu", "device"):
        for cache in (False, True):
            dataset = build(arguments, render_on, cache)
            if cache:
                measure(dataset, len(dataset))
            for step in seconds.values():
                step.clear()
            each = measure(dataset, arguments.pairs)
            parts = ", ".join(f"{name} {1e3 * sum(step) / arguments.pairs:.2f}" for name, step in seconds.items())
            where = "in memory" if cache else "on disk"
            print(
                f"render_on: {render_on}, photographs {where}: {1e3 * each:.2f} ms a pair ({1 / each:.0f}/s): {parts}"
            )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    each = measure_device(build(arguments, "device", cache=True), arguments.batch, device)
    print(f"rendering a batch of {arguments.batch} on {device}: {1e3 * each:.2f} ms a pair ({1 / each:.0f}/s)")


def build(arguments: argparse.Namespace, render_on: str, cache: bool) -> SyntheticMotionBlurDataset:
    return SyntheticMotionBlurDataset(
        {
            "phase": "train",
            "dataroot_gt": arguments.photos,
            "gt_size": arguments.size,
            "blur_extent": arguments.extent,
            "render_on": render_on,
            "cache": cache,
            "uint8": True,
        }
    )


def time_calls(module: Any, name: str) -> list[float]:
    """Put a clock around a function of a module; returns the list that its times go to."""
    seconds: list[float] = []
    function: Callable[..., Any] = getattr(module, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(module, name, timed)
    return seconds


def measure(dataset: SyntheticMotionBlurDataset, pairs: int) -> float:
    """Seconds a pair."""
    start = time.perf_counter()
    for draw in range(pairs):
        dataset[DrawnIndex(draw % len(dataset), 0, draw)]
    return (time.perf_counter() - start) / pairs


def measure_device(dataset: SyntheticMotionBlurDataset, size: int, device: torch.device, repeats: int = 5) -> float:
    """Seconds a pair that the device takes, after one batch that is not counted."""
    samples: dict[str, list[Any]] = defaultdict(list)
    for draw in range(size):
        for name, value in dataset[DrawnIndex(draw % len(dataset), 0, draw)].items():
            samples[name].append(value)
    batch = {name: torch.stack(v).to(device) if torch.is_tensor(v[0]) else v for name, v in samples.items()}
    with_rendered_blur(batch, device)
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        with_rendered_blur(batch, device)
    synchronize(device)
    return (time.perf_counter() - start) / repeats / size


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    with one_line_errors("benchmark_synthesis.py"):
        main()
