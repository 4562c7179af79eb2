"""Measure latency, throughput and memory of deblurring networks on one device, all of them in one run.

Every network restores random pictures, with initial weights; which weights it has does not change its time. Where both
memory layouts are tried (the default on a CPU), each network is timed at the first size with either, and keeps the
faster one. ``--curve`` measures one network over more sizes instead and draws time and memory over pixels.

python scripts/benchmark_latency.py --sizes 360x640 720x1280 --skip-above 15 --json latency.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import basicsr  # noqa: F401  registers the plugin's networks
import torch
from curves import Curve, draw_curves
from measurement import check_plot, describe_machine, status_kibibytes
from tqdm import tqdm

from macr_plugin.benchmark.measuring.cost import count_macs, count_parameters, measure_latencies
from macr_plugin.benchmark.measuring.networks import build_restorer
from macr_plugin.benchmark.options import MODES, PRECISIONS, Cost, Entry
from macr_plugin.benchmark.results import Latency
from macr_plugin.errors import InputError, one_line_errors
from macr_plugin.inference.restorer import DTYPES, Restorer, device_name, find_device
from macr_plugin.models.acceleration import best_acceleration
from macr_plugin.models.memory_layout import lay_out
from macr_plugin.user_modules import import_files

NAFNET = {
    "type": "SpandrelNet",
    "architecture": "NAFNet",
    "enc_blk_nums": [1, 1, 1, 28],
    "middle_blk_num": 1,
    "dec_blk_nums": [1, 1, 1, 1],
}
#: Options, and what height and width must be divisible by.
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "MACR": ({"type": "MACR"}, 1),
    "MACR-small": ({"type": "MACR", "num_feat": 32, "num_blocks": 6, "branch_channels": 8}, 1),
    "SRN": ({"type": "SRNDeblurNet"}, 1),
    "DeepDeblur": ({"type": "DeepDeblur"}, 1),
    "NAFNet-32": ({**NAFNET, "width": 32}, 1),
    "NAFNet-64": ({**NAFNET, "width": 64}, 1),
    "Restormer": ({"type": "SpandrelNet", "architecture": "Restormer"}, 8),
    "Uformer": ({"type": "SpandrelNet", "architecture": "Uformer"}, 1),
}
LAYOUTS = {True: "channels last", False: "contiguous"}


def measure(arguments: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """One row for each network, size, precision and mode."""
    layouts = {"auto": (best_acceleration(device).channels_last,), "both": (True, False)}[arguments.layout]
    for name in arguments.networks:
        options, multiple = NETWORKS[name]
        entry = Entry(name, options, size_multiple=multiple)
        counted = {
            "network": name,
            "parameters": count_parameters(build_restorer(entry)),
            "GMACs at 256x256": count_macs(build_restorer(entry), (256, 256)).macs / 1e9,
        }
        for precision in arguments.precisions:
            for mode in arguments.modes:
                cost = Cost(precisions=(precision,), modes=(mode,), batch=arguments.batch, warm_up=arguments.warm_up)
                cost = replace(cost, runs=arguments.runs)
                for row in over_sizes(entry, cost, arguments, device, layouts):
                    yield {**counted, **row}


def over_sizes(
    entry: Entry, cost: Cost, arguments: argparse.Namespace, device: torch.device, layouts: Sequence[bool]
) -> Iterator[dict[str, Any]]:
    """Rows of one network in one precision and mode; the first size decides about the layout."""
    milliseconds_a_pixel = 0.0
    for size in arguments.sizes:
        expected = milliseconds_a_pixel * size[0] * size[1] / 1000
        if arguments.skip_above and expected > arguments.skip_above:
            reason = f"left out: about {expected:.0f} s a pass"
            row = {"dtype": cost.precisions[0], "mode": cost.modes[0], "height": size[0], "width": size[1]}
            yield {**row, "batch": cost.batch, "median_ms": None, "layout": LAYOUTS[layouts[0]], "error": reason}
            continue
        found = []
        for channels_last in layouts:
            tried = replace(cost, sizes=(size,), channels_last=channels_last)
            time_it = measure_processor_time if arguments.processor_time else measure_latencies
            (latency,) = time_it(lambda: build_restorer(entry), tried, [device])
            found.append((latency.median_ms or float("inf"), channels_last, latency))
        fastest, channels_last, latency = min(found, key=lambda one: one[0])
        layouts = (channels_last,)
        milliseconds_a_pixel = fastest / (size[0] * size[1])
        others = {f"{LAYOUTS[layout]} ms": time for time, layout, _ in found} if len(found) > 1 else {}
        yield {**asdict(latency), "layout": LAYOUTS[channels_last], **others}


@torch.no_grad()
def measure_processor_time(build: Callable[[], Restorer], cost: Cost, devices: list[torch.device]) -> list[Latency]:
    """As :func:`measure_latencies`, in time that this process computes on its one thread, whatever else runs."""
    layout = torch.channels_last if cost.channels_last else torch.contiguous_format
    dtype = DTYPES[cost.precisions[0]]
    restorer = lay_out(build().to(dtype), layout)
    times = []
    # The smaller picture brings code and weights into memory; a pass of the full size would double the time.
    for size in [(64, 64)] * cost.warm_up + [cost.sizes[0]] * cost.runs:
        picture = torch.rand(cost.batch, 3, *size).to(dtype, memory_format=layout)
        start = time.process_time()
        restorer(picture)
        times.append(1000 * (time.process_time() - start))
    times = sorted(times[cost.warm_up :])
    kind = device_name(devices[0]), cost.precisions[0], "eager", cost.batch, *cost.sizes[0], cost.runs
    median = statistics.median(times)
    return [Latency(*kind, median_ms=median, p10_ms=times[0], p90_ms=times[-1])]


# --- curves ----------------------------------------------------------------------------------------------------------


def measure_memory(name: str, size: tuple[int, int], precision: str) -> float:
    """Peak memory of one pass in MiB, in a process of its own; what torch itself takes is not counted.

    Raises:
        InputError: If the pass failed.
    """
    command = [sys.executable, __file__, "--peak", name, precision, *map(str, size)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise InputError(f"a pass of {name} at {size[0]}x{size[1]} failed:\n{process.stderr[-1000:]}")
    return float(process.stdout)


def print_peak(name: str, precision: str, height: int, width: int) -> None:
    """Print the memory that a pass adds to this process at its peak, in MiB."""
    options, multiple = NETWORKS[name]
    entry = Entry(name, options, size_multiple=multiple)
    cost = Cost(sizes=((32, 32),), precisions=(precision,), runs=1, warm_up=1, channels_last=True)
    list(measure_latencies(lambda: build_restorer(entry), cost, [torch.device("cpu")]))
    # From here on the kernel counts the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = status_kibibytes(os.getpid(), "VmRSS")
    cost = replace(cost, sizes=((height, width),))
    (latency,) = measure_latencies(lambda: build_restorer(entry), cost, [torch.device("cpu")])
    if latency.error:
        raise InputError(latency.error)
    print((status_kibibytes(os.getpid(), "VmHWM") - before) / 1024)


def draw_curve(rows: list[dict[str, Any]], path: Path, label: str) -> None:
    """Time and memory over pixels, each beside the straight line."""
    pixels = [row["height"] * row["width"] / 1e6 for row in rows]
    times = Curve("latency", "megapixels", "milliseconds a picture", pixels, [row["median_ms"] for row in rows])
    memory = Curve("memory", "megapixels", "MiB at the peak", pixels, [row["peak_memory_mib"] for row in rows])
    draw_curves([times, memory], f"{rows[0]['network']}, {rows[0]['dtype']}, {label}", path)


# --- report ----------------------------------------------------------------------------------------------------------


def write_table(rows: Sequence[dict[str, Any]]) -> str:
    """All rows as a Markdown table, each beside MACR in the same precision, mode and size."""
    kinds = ("dtype", "mode", "height", "width")
    first = {tuple(row[kind] for kind in kinds): row for row in rows if row["network"] == "MACR"}
    lines = [
        "| Network | Parameters, M | GMACs at 256x256 | Size | Type, mode | Layout | ms (p10-p90) | Of MACR | MiB |",
        "|---|---:|---:|---|---|---|---:|---:|---:|",
    ]
    for row in rows:
        macr = first.get(tuple(row[kind] for kind in kinds), {}).get("median_ms")
        measured = row["median_ms"]
        time = f"{measured:.4g} ({row['p10_ms']:.4g}-{row['p90_ms']:.4g})" if measured else row["error"]
        cells = [
            row["network"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['GMACs at 256x256']:.1f}",
            f"{row['height']}x{row['width']}",
            f"{row['dtype']}, {row['mode']}",
            row["layout"],
            time,
            f"{measured / macr:.2f}x" if measured and macr else "-",
            f"{row['peak_memory_mib']:.0f}" if row.get("peak_memory_mib") else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse_size(text: str) -> tuple[int, int]:
    height, separator, width = text.partition("x")
    if not (separator and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text}: write a size as height x width, such as 720x1280")
    return int(height), int(width)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="default: all")
    parser.add_argument("--import", dest="imports", type=Path, action="append", default=[], help="file of a network")
    parser.add_argument("--network", action="append", default=[], metavar="JSON", help="its options, with type")
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=[(360, 640), (720, 1280)], metavar="HxW")
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=PRECISIONS)
    parser.add_argument("--modes", nargs="+", default=["eager"], choices=MODES)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--layout", choices=("auto", "both"), help="default: both on a CPU, auto on a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processor-time", action="store_true", help="on one thread: for a busy machine")
    parser.add_argument("--skip-above", type=float, metavar="SECONDS", help="leave passes out that would take longer")
    parser.add_argument("--curve", action="store_true", help="memory too, and draw both over pixels")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="where --curve draws to; needs matplotlib")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for text in options.network:
        described = json.loads(text)
        NETWORKS[described["type"]] = described, 64
        options.networks.append(described["type"])
    unknown = [name for name in options.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"--networks {' '.join(unknown)}: choose from {', '.join(NETWORKS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.peak:
        name, precision, height, width = options.peak
        print_peak(name, precision, int(height), int(width))
        return
    import_files(options.imports)
    check_plot(options.plot)
    device = find_device(options.device)
    if options.processor_time:
        torch.set_num_threads(1)
    options.layout = options.layout or ("auto" if device.type == "cuda" else "both")
    rows = []
    for row in tqdm(measure(options, device), desc="measuring", unit="row"):
        if options.curve and device.type == "cpu" and row["median_ms"]:
            row["peak_memory_mib"] = measure_memory(row["network"], (row["height"], row["width"]), row["dtype"])
        rows.append(row)
        machine = {**describe_machine(), "threads": torch.get_num_threads(), "load at the end": os.getloadavg()[0]}
        if options.json:
            # After each row: a run that is stopped leaves what it has measured.
            options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2, default=str) + "\n")
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"\n{write_table(rows)}")
    if options.plot:
        draw_curve([row for row in rows if row["median_ms"]], options.plot, str(machine.get("processor", device)))


if __name__ == "__main__":
    with one_line_errors("benchmark_latency"):
        main()
