"""Measure what runs a network fastest on a CPU: eager in both layouts, ``optimize()``, ``torch.compile``, or others.

All take turns over the same picture, and each result is compared with that of eager in the same precision. ONNX Runtime
and OpenVINO read what ``macr export`` writes; one that is not installed is left out, and ONNX Runtime in bf16, which
its CPU kernels do not have.

pip install openvino
python scripts/benchmark_runtimes.py --network MACR --sizes 360x640 720x1280 --precision bf16 --json runtimes.json
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmark_latency import NETWORKS, parse_size
from measurement import describe_machine, load_at_the_end, markdown_table, one_line, take_turns, write_json
from torch import Tensor, nn

from macr_plugin.benchmark.measuring.networks import build_restorer
from macr_plugin.benchmark.options import Entry
from macr_plugin.errors import one_line_errors
from macr_plugin.inference.export import INPUT, export_network
from macr_plugin.inference.memory import keep_freed_memory
from macr_plugin.inference.optimize import optimize
from macr_plugin.models.acceleration import Acceleration
from macr_plugin.models.memory_layout import lay_out

#: Maps a picture (1, 3, H, W), RGB in [0, 1], to one of the same size.
Run = Callable[[Tensor], Tensor]
LAST = torch.channels_last


def build(name: str) -> nn.Module:
    """A network of the table of latencies, the same weights each time."""
    torch.manual_seed(0)
    return build_restorer(Entry(name, NETWORKS[name][0])).network.eval().requires_grad_(False)


def eager(name: str, layout: torch.memory_format) -> Run:
    network = lay_out(build(name), layout)
    return lambda picture: network(picture.contiguous(memory_format=layout))


def optimized(name: str) -> Run:
    return optimize(build(name), torch.rand(1, 3, 64, 64))


def compiled(name: str) -> Run:
    torch.compiler.reset()
    network = torch.compile(lay_out(build(name), LAST), dynamic=False)
    return lambda picture: network(picture.contiguous(memory_format=LAST))


def onnx_runtime(file: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda picture: torch.from_numpy(session.run(None, {INPUT: picture.numpy()})[0])


def openvino(file: Path, threads: int, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
    return lambda picture: torch.from_numpy(request.infer([picture.numpy()])[0].copy())


def runtimes(name: str, file: Path, threads: int, precision: str) -> dict[str, Run]:
    """What is installed and has the precision, by its name."""
    found: dict[str, Run] = {
        "eager, contiguous": eager(name, torch.contiguous_format),
        "eager, channels last": eager(name, LAST),
        "optimize()": optimized(name),
        "torch.compile, channels last": compiled(name),
    }
    if precision == "fp32" and importlib.util.find_spec("onnxruntime"):
        found["ONNX Runtime"] = onnx_runtime(file, threads)
    if importlib.util.find_spec("openvino"):
        found["OpenVINO"] = openvino(file, threads, precision)
    return found


@torch.no_grad()
def measure(name: str, size: tuple[int, int], arguments: argparse.Namespace, file: Path) -> list[dict[str, Any]]:
    """Seconds of each runtime at one size, in autocast's context for bf16; the file is the exported network."""
    clock = time.process_time if arguments.processor_time else time.perf_counter
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    contenders = runtimes(name, file, torch.get_num_threads(), arguments.precision)
    # The first pass compiles, and chooses kernels.
    results = {title: run(picture) for title, run in contenders.items()}
    seconds: dict[str, list[float]] = {title: [] for title in contenders}
    for title in take_turns(list(contenders), arguments.rounds, f"{size[0]}x{size[1]}"):
        start = clock()
        contenders[title](picture)
        seconds[title].append(clock() - start)
    expected = results["eager, channels last"]
    return [
        {
            "runtime": title,
            "height": size[0],
            "width": size[1],
            "seconds": statistics.median(times),
            "range": [min(times), max(times)],
            "largest difference": (results[title] - expected).abs().max().item(),
        }
        for title, times in seconds.items()
    ]


def write_table(rows: Sequence[dict[str, Any]]) -> str:
    """All rows, each beside eager, channels last, at the same size."""
    first = {(row["height"], row["width"]): row["seconds"] for row in rows if row["runtime"] == "eager, channels last"}
    cells = [
        [
            row["runtime"],
            f"{row['height']}x{row['width']}",
            f"{row['seconds']:.3g} ({row['range'][0]:.3g}-{row['range'][1]:.3g})",
            f"{first[row['height'], row['width']] / row['seconds']:.2f}x",
            f"{row['largest difference']:.1e}",
        ]
        for row in rows
    ]
    return markdown_table(["Runtime", "Size", "Seconds", "As fast as eager", "Largest difference"], cells, texts=2)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="MACR")
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=[(360, 640), (720, 1280)], metavar="HxW")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--processor-time", action="store_true", help="of all threads together: for a busy machine")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    told = {name: getattr(options, name) for name in ("threads", "network", "precision")}
    acceleration = Acceleration(precision=options.precision)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        export_network(build(options.network), file, "onnx")
        for size in options.sizes:
            with acceleration.autocast(torch.device("cpu")):
                rows += measure(options.network, size, options, file)
            machine = {**describe_machine(), **told}
            write_json(options.json, {"machine": machine, "rows": rows})
    print(f"{one_line(machine)}, {load_at_the_end()}\n\n{write_table(rows)}")


if __name__ == "__main__":
    with one_line_errors("benchmark_runtimes"):
        main()
