"""Measure the images a second of BasicSR's whole training loop, reading from an LMDB, with and without acceleration.

Every contender trains the same network on the same frames in a process of its own, through ``basicsr.train``. They
take turns, so that what else the machine does hits them alike. The first epoch (workers start, cuDNN chooses its
kernels, ``torch.compile``, graph capture) is not counted; the clock starts and stops with the device synchronised, and
nothing is synchronised between. A validation on one full frame follows, whose memory counts.

* images/s: median over the rounds, and the range.
* Memory: peak of PyTorch's allocator on a GPU, peak resident memory of the main process on a CPU.
* Waiting for data: share of the time between the end of a step and the arrival of the next batch on the host. Where
  steps are queued faster than the GPU works, that wait costs nothing.
* GPU busy: mean utilisation that nvidia-smi reports while the clock runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import basicsr.train
import torch
import yaml
from basicsr.models.sr_model import SRModel
from frames import HEIGHT, WIDTH, write_frames
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

from macr_plugin.errors import InputError, one_line_errors
from macr_plugin.models.multiscale_model import MultiScaleDeblurModel
from macr_plugin.training_program import patch_this_program

OPTIONS = Path(__file__).parents[1] / "options" / "macr_gopro.yml"
BASELINE = "ours, not accelerated, losses read in every step"


@dataclass
class Contender:
    """One way to train, and what was measured of it.

    Attributes:
        name: What the table calls it.
        model_type: Class of the model.
        storage: ``PNG`` frames through BasicSR's dataset, or ``uncompressed`` ones through ours.
        acceleration: ``train.acceleration``.
        reads_losses: Wait for the losses after every step, as BasicSR does.
        runs: Figures of each round.
    """

    name: str
    model_type: str = "MultiScaleDeblurModel"
    storage: str = "uncompressed"
    acceleration: dict[str, Any] | None = None
    reads_losses: bool = False
    runs: list[dict[str, float]] = field(default_factory=list)


def list_contenders(has_gpu: bool, compiles: bool, compiled_only: bool = False) -> list[Contender]:
    """Stock BasicSR, the baseline, each acceleration alone and several together.

    Args:
        has_gpu: Whether there is one to train on.
        compiles: ``torch.compile`` too.
        compiled_only: Only the baseline and what compiles.
    """
    contenders = [
        Contender("BasicSR: SRModel, PNG LMDB, loss of one scale", "SRModel", "PNG"),
        Contender(BASELINE, reads_losses=True),
        Contender("ours, not accelerated"),
        Contender("channels_last", acceleration={"channels_last": True}),
        Contender("bf16, channels_last", acceleration={"precision": "bf16", "channels_last": True}),
    ]
    compiled = [Contender("compile", acceleration={"compile": True})] if compiles else []
    if has_gpu:
        graph = {"channels_last": True, "cuda_graph": True}
        contenders += [
            Contender("bf16", acceleration={"precision": "bf16"}),
            Contender("cuda_graph", acceleration={"cuda_graph": True}),
            Contender("fp32, cuda_graph", acceleration={"precision": "fp32", **graph}),
            Contender("tf32, cuda_graph", acceleration={"precision": "tf32", **graph}),
            Contender("bf16, cuda_graph", acceleration={"precision": "bf16", **graph}),
        ]
        everything = dict.fromkeys(("precision", "channels_last", "compile", "cuda_graph"), "auto")
        compiled += [Contender("everything auto", acceleration=everything)] if compiles else []
    if compiled_only:
        contenders = [one for one in contenders if one.name == BASELINE]
    return contenders + compiled


# --- one training, in a process of its own ---------------------------------------------------------------------------


class Meter:
    """Takes the time of a model's steps.

    Args:
        first: Step before which the clock starts.
        last: Step after which it stops.
        reads_losses: Wait for the losses after every step.
    """

    def __init__(self, first: int, last: int, reads_losses: bool) -> None:
        self.first, self.last, self.reads_losses = first, last, reads_losses
        self.step = 0
        self.waiting = self.started = self.stopped = self.step_ended = 0.0

    def attach(self, model_class: type[SRModel]) -> None:
        """Watch every model of a class."""
        feed_data, optimize_parameters = model_class.feed_data, model_class.optimize_parameters

        def timed_feed_data(model: SRModel, data: dict[str, Any]) -> None:
            if self.first < self.step < self.last:
                self.waiting += time.perf_counter() - self.step_ended
            feed_data(model, data)

        def timed_optimize_parameters(model: SRModel, current_iter: int) -> None:
            self.step += 1
            if self.step == self.first:
                self.started = now()
            optimize_parameters(model, current_iter)
            if self.reads_losses:
                model.get_current_log()
            if self.step == self.last:
                self.stopped = now()
            self.step_ended = time.perf_counter()

        model_class.feed_data, model_class.optimize_parameters = timed_feed_data, timed_optimize_parameters


def train_and_measure(options: Path, result: Path, first: int, last: int, reads_losses: bool) -> None:
    """Run BasicSR's training program on an option file and write the figures."""
    sys.argv = [sys.argv[0], "-opt", str(options)]
    patch_this_program()
    opt = yaml.safe_load(options.read_text())
    meter = Meter(first, last, reads_losses)
    meter.attach(SRModel if opt["model_type"] == "SRModel" else MultiScaleDeblurModel)
    with gpu_utilisation() as utilisation:
        basicsr.train.train_pipeline(str(Path.cwd()))
    batch, seconds = opt["datasets"]["train"]["batch_size_per_gpu"], meter.stopped - meter.started
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {
        "images a second": (last - first + 1) * batch / seconds,
        "memory in bytes": memory,
        "waiting for data": meter.waiting / seconds,
        "GPU busy": utilisation(meter.started, meter.stopped),
    }
    result.write_text(json.dumps(figures))


@contextmanager
def gpu_utilisation() -> Iterator[Callable[[float, float], float | None]]:
    """Watch the GPU with nvidia-smi.

    Yields:
        A function for the mean utilisation between two times of the body, once it has ended; it gives None without a
        GPU or without nvidia-smi.
    """
    if not (torch.cuda.is_available() and shutil.which("nvidia-smi")):
        yield lambda start, stop: None
        return
    values: list[float] = []
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with tempfile.TemporaryFile("w+") as output:
        begun = time.perf_counter()
        watcher = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)

        def mean(start: float, stop: float) -> float | None:
            chosen = values[int((start - begun) * 10) : int((stop - begun) * 10)]
            return statistics.mean(chosen) / 100 if chosen else None

        try:
            yield mean
        finally:
            watcher.terminate()
            watcher.wait()
            output.seek(0)
            values += [float(line) for line in output if line.strip().isdigit()]


# --- all trainings ---------------------------------------------------------------------------------------------------


def write_options(contender: Contender, root: Path, arguments: argparse.Namespace, batch: int) -> Path:
    """Options of the paper's training, with the frames of this measurement and the contender's changes."""
    opt = yaml.safe_load(OPTIONS.read_text())
    opt["name"], opt["model_type"] = "benchmark", contender.model_type
    stock = contender.model_type == "SRModel"
    ending, backend = (".lmdb", "lmdb") if contender.storage == "PNG" else ("_uncompressed.lmdb", "uncompressed_lmdb")
    train, val = opt["datasets"]["train"], opt["datasets"]["val"]
    steps = steps_of_epoch(arguments, batch)
    train.update(
        dataroot_lq=str(root / f"blur{ending}"),
        dataroot_gt=str(root / f"sharp{ending}"),
        io_backend={"type": backend},
        gt_size=arguments.crop,
        batch_size_per_gpu=batch,
        num_worker_per_gpu=arguments.workers,
        dataset_enlarge_ratio=-(-steps * batch // arguments.frames),
        prefetch_mode="cuda" if torch.cuda.is_available() and not stock else None,
    )
    val.update(dataroot_lq=str(root / "blur.lmdb"), dataroot_gt=str(root / "sharp.lmdb"), num_frames=1)
    if stock:
        train["type"] = val["type"] = "PairedImageDataset"
        for key in ("uint8", "cache"):
            train.pop(key)
        val.pop("num_frames")
    opt["network_g"].update(num_feat=arguments.num_feat, num_blocks=arguments.num_blocks)
    iterations = (arguments.epochs + 1) * steps
    opt["train"].update(total_iter=iterations, acceleration=contender.acceleration)
    # BasicSR's own validation is not what is measured here, and takes long.
    opt["val"].update(val_freq=10 * iterations if stock else iterations, comparison_frames=0, pbar=False)
    if stock:
        del opt["val"], opt["datasets"]["val"]
    opt["logger"].update(print_freq=steps, save_checkpoint_freq=10 * iterations, use_tb_logger=False)
    path = root / "options.yml"
    path.write_text(yaml.safe_dump(opt, sort_keys=False))
    return path


def steps_of_epoch(arguments: argparse.Namespace, batch: int) -> int:
    """Whole batches in an epoch of at least as many images as were asked for."""
    return -(-arguments.images // batch)


def run(contender: Contender, root: Path, arguments: argparse.Namespace, batch: int) -> dict[str, float]:
    """Train a contender once.

    Raises:
        InputError: If the training failed.
    """
    steps = steps_of_epoch(arguments, batch)
    options = write_options(contender, root, arguments, batch)
    result = root / "result.json"
    result.unlink(missing_ok=True)
    one = ["--one", str(options), str(result), str(steps + 1), str((arguments.epochs + 1) * steps)]
    command = [sys.executable, __file__, *one, *["--reads-losses"] * contender.reads_losses]
    with tempfile.TemporaryDirectory(dir=root) as folder:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not result.exists():
        raise InputError(f"the training of {contender.name!r} failed:\n{(process.stdout + process.stderr)[-2000:]}")
    return json.loads(result.read_text())


def write_table(contenders: Sequence[Contender]) -> str:
    """The figures as a Markdown table."""
    baseline = images_a_second(next(contender for contender in contenders if contender.name == BASELINE))
    header = ["Training", "images/s (range)", "of the baseline", "memory, MiB", "waiting for data", "GPU busy"]
    rows = []
    for contender in contenders:
        speeds = [one["images a second"] for one in contender.runs]
        busy = [one["GPU busy"] for one in contender.runs if one["GPU busy"] is not None]
        rows.append(
            [
                contender.name,
                median_and_range(speeds, decimals=1),
                f"{images_a_second(contender) / baseline:.2f}x",
                f"{max(one['memory in bytes'] for one in contender.runs) / 2**20:.0f}",
                f"{statistics.median(one['waiting for data'] for one in contender.runs):.0%}",
                f"{statistics.median(busy):.0%}" if busy else "-",
            ]
        )
    return markdown_table(header, rows)


def images_a_second(contender: Contender) -> float:
    return statistics.median(one["images a second"] for one in contender.runs)


def plot(measured: dict[int, list[Contender]], path: Path) -> None:
    """Draw images a second as bars, one panel a batch size."""
    panels = [
        Bars(
            f"images a second, batch {batch}",
            [one.name for one in contenders],
            {"": list(map(images_a_second, contenders))},
        )
        for batch, contenders in measured.items()
    ]
    draw_bars(panels, path)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 16], help="batch sizes (default: 2 16)")
    parser.add_argument("--crop", type=int, default=256, help="side of the crops (default: 256)")
    parser.add_argument("--num-feat", type=int, default=64, help="channels of MACR (default: 64)")
    parser.add_argument("--num-blocks", type=int, default=8, help="blocks of MACR (default: 8)")
    parser.add_argument("--frames", type=int, default=64, help="full frames to render (default: 64)")
    parser.add_argument("--images", type=int, default=640, help="images of an epoch (default: 640)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs on the clock (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="data loading processes (default: 2)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contender (default: 1)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too; takes minutes on a CPU")
    parser.add_argument("--compiled-only", action="store_true", help="with --compile: leave out what does not compile")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    add_output_options(parser)
    parser.add_argument("--one", nargs=4, metavar=("YML", "JSON", "FIRST", "LAST"), help=argparse.SUPPRESS)
    parser.add_argument("--reads-losses", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if min(options.frames, options.rounds, options.epochs, options.images, *options.batch) < 1:
        parser.error("--frames, --rounds, --epochs, --images and --batch must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.one:
        yml, result, first, last = options.one
        train_and_measure(Path(yml), Path(result), int(first), int(last), options.reads_losses)
        return
    check_plot(options.plot)
    machine = describe_machine()
    measured: dict[int, list[Contender]] = {}
    with tempfile.TemporaryDirectory(prefix="macr-benchmark-", dir=options.folder) as folder:
        root = Path(folder)
        write_frames(root, options.frames)
        for batch in options.batch:
            contenders = list_contenders(torch.cuda.is_available(), options.compile, options.compiled_only)
            for contender in take_turns(contenders, options.rounds, f"batch {batch}"):
                contender.runs.append(run(contender, root, options, batch))
            measured[batch] = contenders
    print(one_line(machine))
    print(
        f"MACR with {options.num_feat} channels and {options.num_blocks} blocks, crops of {options.crop}, "
        f"{options.epochs} epochs of {options.images} images from {WIDTH}x{HEIGHT} frames, {options.workers} workers; "
        f"{load_at_the_end()}"
    )
    for batch, contenders in measured.items():
        print(f"\nBatch {batch}:\n\n{write_table(contenders)}")
    if options.plot:
        plot(measured, options.plot)
    figures = {batch: [vars(contender) for contender in contenders] for batch, contenders in measured.items()}
    write_json(options.json, {"machine": machine, "batches": figures})


if __name__ == "__main__":
    with one_line_errors("benchmark_training"):
        main()
