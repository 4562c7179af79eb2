"""Measure how many frames a second a validation takes: BasicSR's way and ours on the same frames and weights.

Frames come from ``--lq`` and ``--gt``, two folders or two LMDBs, or are rendered at 1280x720 into a temporary folder.
Both contenders take turns, so that what else the machine does hits them alike; the figures are medians over the rounds.

* Metrics alone: PSNR and SSIM of one restored frame that lies on the device, until the values are Python numbers.
  BasicSR rounds with ``tensor2img`` and computes with NumPy and OpenCV; ours rounds and computes where the frame is.
  ``two at once`` measures the blurred frame beside the restored one, as our validation does.
* Whole validation: reading, restoring and measuring all frames: ``SRModel`` with its loader without workers against
  ``MultiScaleDeblurModel``, which also measures the blurred frames. The start of its workers is part of the time.

The weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.models import build_model
from basicsr.utils import get_root_logger, tensor2img
from frames import write_frames
from measurement import (
    Bars,
    add_output_options,
    check_plot,
    describe_machine,
    draw_bars,
    load_at_the_end,
    markdown_table,
    median_and_range,
    now,
    one_line,
    take_turns,
    write_json,
)

from macr_plugin.basicsr_compat.lmdb_backend import patch_lmdb_environments
from macr_plugin.data.storage.lmdb_environments import lmdb_environments
from macr_plugin.data.storage.lmdb_format import DATA_FILE, read_storage
from macr_plugin.errors import InputError, one_line_errors
from macr_plugin.metrics.psnr_ssim import psnr, ssim_3d, ssim_per_channel

METRICS = {name: {"type": f"calculate_{name}", "crop_border": 0, "test_y_channel": False} for name in ("psnr", "ssim")}
NETWORKS = {
    "full": {"type": "MACR"},
    "narrow": {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2},
}
BACKENDS = {"png": "lmdb", "uncompressed": "uncompressed_lmdb"}


@dataclass
class Contender:
    """A way to validate or to measure, and how long it took.

    Attributes:
        part: What is measured; contenders of one part are compared.
        name: What the table calls it.
        work: Does it once.
        frames: Number of frames that it takes then.
        seconds: Time of each round.
    """

    part: str
    name: str
    work: Callable[[], Any]
    frames: int = 1
    seconds: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Frames a second of each round."""
        return [self.frames / seconds for seconds in self.seconds]


def dataset_options(lq: Path, gt: Path, frames: int, uint8: bool, workers: int | None) -> dict[str, Any]:
    """Options of the frames, read by the plugin's data set in either contender."""
    for place in (lq, gt):
        if not place.is_dir():
            raise InputError(f"{place} is no folder: give --lq and --gt a folder of pictures or an LMDB each")
    backend = BACKENDS[read_storage(lq).storage] if (lq / DATA_FILE).is_file() else "disk"
    return {
        **{"name": "frames", "type": "DeblurPairDataset", "phase": "val", "num_frames": frames, "scale": 1},
        **{"dataroot_lq": str(lq), "dataroot_gt": str(gt), "io_backend": {"type": backend}, "uint8": uint8},
        "num_worker_per_gpu": workers,
    }


def whole_validations(arguments: argparse.Namespace, lq: Path, gt: Path) -> list[Contender]:
    """Both model classes on the same frames."""
    contenders = []
    for model_type, name in (("SRModel", "BasicSR"), ("MultiScaleDeblurModel", "ours")):
        ours = name == "ours"
        options = dataset_options(lq, gt, arguments.frames, uint8=ours, workers=arguments.workers)
        loader = build_dataloader(build_dataset(options), options)
        torch.manual_seed(0)
        model = build_model(
            {
                **{"name": "benchmark", "model_type": model_type, "scale": 1, "is_train": False, "dist": False},
                **{"num_gpu": int(arguments.device == "cuda"), "rank": 0, "world_size": 1, "path": {}},
                "network_g": NETWORKS[arguments.network],
                "val": {"metrics": METRICS, "suffix": None},
            }
        )

        def validate(model: Any = model, loader: Any = loader) -> dict[str, float]:
            model.validation(loader, "benchmark", None, save_img=False)
            return model.metric_results

        contenders.append(Contender("whole validation", name, validate, len(loader)))
    return contenders


def metrics_alone(lq: Path, gt: Path, device: str) -> list[Contender]:
    """PSNR and SSIM of the first frame, the blurred one in the place of the restored one."""
    frame = build_dataset(dataset_options(lq, gt, 1, uint8=False, workers=0))[0]
    restored, sharp = (frame[name][None].to(device) for name in ("lq", "gt"))
    pair = torch.cat((restored, restored.flip(-1)))

    def stock() -> tuple[float, float]:
        pictures = tensor2img([restored]), tensor2img([sharp])
        return calculate_psnr(*pictures, crop_border=0), calculate_ssim(*pictures, crop_border=0)

    return [
        Contender("PSNR and SSIM", "BasicSR", stock),
        Contender(
            "PSNR and SSIM", "ours", lambda: (psnr(restored, sharp).item(), ssim_per_channel(restored, sharp).item())
        ),
        Contender(
            "PSNR and SSIM",
            "ours, two at once",
            lambda: (psnr(pair, sharp).tolist(), ssim_per_channel(pair, sharp).tolist()),
            frames=2,
        ),
        Contender("SSIM over the channels", "ours", lambda: ssim_3d(restored, sharp).item()),
    ]


def measure_all(contenders: Sequence[Contender], rounds: int) -> None:
    """Let all contenders take turns, after one round that does not count; the device has ended its work in each."""
    for contender in contenders:
        contender.work()
    for contender in take_turns(contenders, rounds):
        start = now()
        contender.work()
        contender.seconds.append(now() - start)


def check_agreement(contenders: Sequence[Contender]) -> dict[str, float]:
    """Largest difference between the figures of the first two contenders, which must be the same up to rounding.

    Raises:
        RuntimeError: If they are not.
    """
    (stock_psnr, stock_ssim), (our_psnr, our_ssim) = (contender.work() for contender in contenders[:2])
    differences = {"psnr": abs(stock_psnr - our_psnr), "ssim": abs(stock_ssim - our_ssim)}
    if differences["psnr"] > 1e-4 or differences["ssim"] > 1e-5:
        raise RuntimeError(f"the contenders disagree by {differences}")
    return differences


def write_table(contenders: Sequence[Contender]) -> str:
    """The figures as a Markdown table."""
    rows = []
    for contender in contenders:
        baseline = next(one for one in contenders if one.part == contender.part)
        rate, first = statistics.median(contender.rates), statistics.median(baseline.rates)
        rows.append(
            [
                contender.part,
                contender.name,
                f"{1000 / rate:.1f}",
                median_and_range(contender.rates, decimals=2),
                f"{rate / first:.1f}x",
            ]
        )
    return markdown_table(["what", "who", "ms a frame", "frames/s (range)", "of the first"], rows, texts=2)


def plot(contenders: Sequence[Contender], label: str, path: Path) -> None:
    """Draw frames a second as bars."""
    names = [f"{contender.part}: {contender.name}" for contender in contenders]
    rates = [statistics.median(contender.rates) for contender in contenders]
    colours = ["tab:gray" if contender.name == "BasicSR" else "tab:blue" for contender in contenders]
    draw_bars([Bars(f"frames a second, {label}", names, {"": rates}, colours)], path)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lq", type=Path, help="folder or LMDB of blurred frames (default: rendered)")
    parser.add_argument("--gt", type=Path, help="folder or LMDB of sharp frames with the same names")
    parser.add_argument("--frames", type=int, default=16, help="frames of a validation (default: 16)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: 5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU if there is one")
    parser.add_argument("--network", choices=NETWORKS, help="width of MACR (default: full on a GPU, narrow on a CPU)")
    parser.add_argument("--workers", type=int, help="workers of ours (default: 4 on a GPU, none on a CPU)")
    parser.add_argument("--threads", type=int, help="CPU threads of torch and OpenCV (default: theirs)")
    parser.add_argument("--quick", action="store_true", help="two frames, one round: figures mean little")
    parser.add_argument("--folder", type=Path, help="where to render frames (default: the system's temporary folder)")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    if options.quick:
        options.frames, options.rounds = 2, 1
    if min(options.frames, options.rounds) < 1:
        parser.error("--frames and --rounds must be at least 1")
    if (options.lq is None) is not (options.gt is None):
        parser.error("--lq and --gt go together")
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options.network = options.network or ("full" if options.device == "cuda" else "narrow")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    check_plot(options.plot)
    if options.threads:
        import cv2

        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    get_root_logger(log_level=logging.ERROR)
    # Both contenders read one LMDB, which lmdb 2 and later refuse to open twice in a process.
    patch_lmdb_environments(lmdb_environments())
    with tempfile.TemporaryDirectory(prefix="macr-benchmark-", dir=options.folder) as folder:
        lq, gt = options.lq, options.gt
        if lq is None:
            write_frames(Path(folder), options.frames)
            lq, gt = Path(folder, "blur.lmdb"), Path(folder, "sharp.lmdb")
        alone = metrics_alone(lq, gt, options.device)
        contenders = [*alone, *whole_validations(options, lq, gt)]
        differences = check_agreement(alone)
        measure_all(contenders, options.rounds)
        height, width = build_dataset(dataset_options(lq, gt, 1, uint8=True, workers=0))[0]["gt"].shape[1:]
    conditions = {
        **describe_machine(),
        **{"device": options.device, "frame": f"{width}x{height}", "frames": contenders[-1].frames, "batch": 1},
        **{
            "dtype": "float32",
            "TF32 convolutions": torch.backends.cudnn.allow_tf32,
            "threads": torch.get_num_threads(),
        },
        **{"network": f"MACR, {options.network}", "synchronised": "before and after each turn"},
        "BasicSR and ours differ by": ", ".join(f"{value:.1e} ({name})" for name, value in differences.items()),
    }
    print(one_line(conditions))
    print(f"{load_at_the_end()}\n\n{write_table(contenders)}")
    if options.plot:
        plot(contenders, f"{width}x{height}, {options.device}, MACR {options.network}", options.plot)
    names = ("part", "name", "frames", "seconds", "rates")
    measured = [{name: getattr(one, name) for name in names} for one in contenders]
    write_json(options.json, {"conditions": conditions, "options": vars(options), "contenders": measured})


if __name__ == "__main__":
    with one_line_errors("benchmark_validation"):
        main()
