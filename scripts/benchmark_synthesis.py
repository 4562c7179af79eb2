"""Measure SyntheticMotionBlurDataset in one process: milliseconds a pair and where they go, plain and realistic blur.

python scripts/benchmark_synthesis.py --photos DIR [--size 256] [--extent 4 12] [--pairs 100]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import torch
from measurement import now
from torch.utils.data import default_collate

from macr_plugin.data.datasets import photo_source, synthetic_motion_blur_dataset
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.datasets.synthetic_motion_blur_dataset import SyntheticMotionBlurDataset
from macr_plugin.data.synthesis.blur_model import BlurModel
from macr_plugin.data.synthesis.torch_rendering import with_rendered_blur
from macr_plugin.errors import one_line_errors

STEPS = (
    (photo_source, "read_photo"),
    (BlurModel, "draw_shot"),
    (synthetic_motion_blur_dataset, "render_pair"),
)
# The device renders all but this.
NOT_ON_DEVICE = {"jpeg_share": 0}


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
    seconds = {name: time_calls(owner, name) for owner, name in STEPS}
    for render_on in ("cpu", "device"):
        for cache in (False, True):
            datasets = {kind: build(arguments, render_on, cache, kind) for kind in ("plain", "realistic")}
            where = f"render_on: {render_on}, photographs {'in memory' if cache else 'on disk'}"
            for kind, (each, parts) in measure_in_turns(datasets, arguments.pairs, seconds).items():
                steps = ", ".join(f"{name} {1e3 * part:.2f}" for name, part in parts.items())
                print(f"{where}, {kind}: {1e3 * each:.2f} ms a pair ({1 / each:.0f}/s): {steps}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for kind in ("plain", "realistic"):
        each = measure_device(build(arguments, "device", True, kind), arguments.batch, device)
        batch = f"rendering a batch of {arguments.batch} on {device}, {kind}"
        print(f"{batch}: {1e3 * each:.2f} ms a pair ({1 / each:.0f}/s)")


def build(arguments: argparse.Namespace, render_on: str, cache: bool, kind: str) -> SyntheticMotionBlurDataset:
    """Both kinds have blur of one range of extents, evenly spread."""
    realistic = {"realistic": True, "blur_median": None, "sharp_share": 0}
    return SyntheticMotionBlurDataset(
        {
            "phase": "train",
            "dataroot_gt": arguments.photos,
            "gt_size": arguments.size,
            **(realistic if kind == "realistic" else {}),
            **(NOT_ON_DEVICE if render_on == "device" else {}),
            "blur_extent": arguments.extent,
            "render_on": render_on,
            "cache": cache,
            "uint8": True,
        }
    )


def time_calls(owner: Any, name: str) -> list[float]:
    """Put a clock around a function of a module or class; returns the list that its times go to."""
    seconds: list[float] = []
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(owner, name, timed)
    return seconds


def measure_in_turns(
    datasets: dict[str, SyntheticMotionBlurDataset], pairs: int, steps: dict[str, list[float]]
) -> dict[str, tuple[float, dict[str, float]]]:
    """Seconds a pair of each dataset, and those of each step, a pair of each after the other."""
    totals = dict.fromkeys(datasets, 0.0)
    parts = {kind: dict.fromkeys(steps, 0.0) for kind in datasets}
    photographs = max(map(len, datasets.values()))
    # Once through all photographs, which fills the caches and is not counted.
    for draw in range(-photographs, pairs):
        for kind, dataset in datasets.items():
            for step in steps.values():
                step.clear()
            start = time.perf_counter()
            dataset[DrawnIndex(draw % len(dataset), 0, max(draw, 0))]
            if draw >= 0:
                totals[kind] += (time.perf_counter() - start) / pairs
                for name, step in steps.items():
                    parts[kind][name] += sum(step) / pairs
    return {kind: (totals[kind], parts[kind]) for kind in datasets}


def measure_device(dataset: SyntheticMotionBlurDataset, size: int, device: torch.device, repeats: int = 5) -> float:
    """Seconds a pair that the device takes, after one batch that is not counted."""
    batch = default_collate([dataset[DrawnIndex(draw % len(dataset), 0, draw)] for draw in range(size)])
    batch = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
    with_rendered_blur(batch, device)
    start = now()
    for _ in range(repeats):
        with_rendered_blur(batch, device)
    return (now() - start) / repeats / size


if __name__ == "__main__":
    with one_line_errors("benchmark_synthesis.py"):
        main()
