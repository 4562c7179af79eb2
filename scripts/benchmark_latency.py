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
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import basicsr  # noqa: F401  registers the plugin's networks
import mimo_unet_arch  # noqa: F401  registers MIMOUNet
import torch
from curves import Curve, draw_curves
from measurement import check_plot, describe_machine, status_kibibytes, write_json
from tqdm import tqdm

from macr_plugin.benchmark.measuring.cost import count_macs, count_parameters, measure_latencies
from macr_plugin.benchmark.measuring.networks import build_restorer
from macr_plugin.benchmark.options import MODES, Cost, Entry
from macr_plugin.errors import InputError, one_line_errors
from macr_plugin.inference.memory import keep_freed_memory
from macr_plugin.inference.restorer import find_device
from macr_plugin.models.acceleration import best_acceleration
from macr_plugin.options.precision import PRECISIONS
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
    "MIMO-UNet": ({"type": "MIMOUNet"}, 4),
    "Uformer": ({"type": "SpandrelNet", "architecture": "Uformer"}, 1),
}
LAYOUTS = {True: "channels last", False: "contiguous"}

Rows = dict[tuple[Any, ...], dict[str, Any]]


def measure(arguments: argparse.Namespace, device: torch.device, earlier: Rows) -> Iterator[dict[str, Any]]:
    """One row for each network, size, precision and mode; what an earlier run has measured is not measured again."""
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
                default = int(device.type == "cuda" or mode != "eager")
                warm_up = default if arguments.warm_up is None else arguments.warm_up
                cost = Cost(precisions=(precision,), modes=(mode,), batch=arguments.batch, warm_up=warm_up)
                cost = replace(cost, runs=arguments.runs)
                for row in over_sizes(entry, cost, arguments, device, layouts, earlier):
                    yield {**counted, **row}


def over_sizes(
    entry: Entry,
    cost: Cost,
    arguments: argparse.Namespace,
    device: torch.device,
    layouts: Sequence[bool],
    earlier: Rows,
) -> Iterator[dict[str, Any]]:
    """Rows of one network in one precision and mode; the first size decides about the layout."""
    milliseconds_a_pixel = 0.0
    for size in arguments.sizes:
        row = {"dtype": cost.precisions[0], "mode": cost.modes[0], "height": size[0], "width": size[1]}
        row = earlier.get(key_of({"network": entry.label, **row})) or row
        expected = milliseconds_a_pixel * size[0] * size[1] / 1000
        if "median_ms" not in row and arguments.skip_above and expected > arguments.skip_above:
            reason = f"left out: about {expected:.0f} s a pass"
            yield {**row, "batch": cost.batch, "median_ms": None, "layout": LAYOUTS[layouts[0]], "error": reason}
            continue
        if "median_ms" not in row:
            row = fastest_layout(entry, replace(cost, sizes=(size,)), arguments, device, layouts)
        layouts = [layout for layout in LAYOUTS if LAYOUTS[layout] == row["layout"]]
        milliseconds_a_pixel = (row["median_ms"] or float("inf")) / (size[0] * size[1])
        yield row


def fastest_layout(
    entry: Entry, cost: Cost, arguments: argparse.Namespace, device: torch.device, layouts: Sequence[bool]
) -> dict[str, Any]:
    """The row of the layout that is faster at one size, with the time of the other one."""
    # The smaller picture brings code into memory; on a CPU a pass of the full size would double the time.
    warm_up = ((64, 64),) if device.type == "cpu" else ()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    found = []
    for channels_last in layouts:
        tried = replace(cost, sizes=(*warm_up, *cost.sizes), channels_last=channels_last)
        *_, latency = measure_latencies(lambda: build_restorer(entry), tried, [device], clock)
        found.append((latency.median_ms or float("inf"), channels_last, latency))
    _, channels_last, latency = min(found, key=lambda one: one[0])
    others = {f"{LAYOUTS[layout]} ms": time for time, layout, _ in found} if len(found) > 1 else {}
    return {**asdict(latency), "layout": LAYOUTS[channels_last], **others}


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a row from all others."""
    return tuple(row[name] for name in ("network", "dtype", "mode", "height", "width"))


def read_finished(path: Path | None) -> Rows:
    """Rows that an earlier run has measured."""
    if path is None or not path.is_file():
        return {}
    return {key_of(row): row for row in json.loads(path.read_text())["rows"] if row["median_ms"]}


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
    parser.add_argument("--warm-up", type=int, help="default: 1; eager on a CPU a small picture, which --runs follow")
    parser.add_argument("--layout", choices=("auto", "both"), help="default: both on a CPU, auto on a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processor-time", action="store_true", help="on one thread: for a busy machine")
    parser.add_argument("--give-back", action="store_true", help="freed memory, as torch does; macr deblur keeps it")
    parser.add_argument("--skip-above", type=float, metavar="SECONDS", help="leave passes out that would take longer")
    parser.add_argument("--curve", action="store_true", help="memory too, and draw both over pixels")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--resume", action="store_true", help="keep what the file of --json holds of an earlier run")
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
    kept = not options.give_back and keep_freed_memory()
    check_plot(options.plot)
    device = find_device(options.device)
    if options.processor_time:
        torch.set_num_threads(1)
    options.layout = options.layout or ("auto" if device.type == "cuda" else "both")
    rows = read_finished(options.json) if options.resume else {}
    for row in tqdm(measure(options, device, dict(rows)), desc="measuring", unit="row"):
        if options.curve and device.type == "cpu" and row["median_ms"]:
            row["peak_memory_mib"] = measure_memory(row["network"], (row["height"], row["width"]), row["dtype"])
        rows[key_of(row)] = row
        machine = {**describe_machine(), "threads": torch.get_num_threads(), "memory kept": kept}
        machine["load at the end"] = os.getloadavg()[0]
        # After each row: a run that is stopped leaves what it has measured.
        write_json(options.json, {"machine": machine, "rows": list(rows.values())})
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"\n{write_table(list(rows.values()))}")
    if options.plot:
        draw_curve(
            [row for row in rows.values() if row["median_ms"]], options.plot, str(machine.get("processor", device))
        )


if __name__ == "__main__":
    with one_line_errors("benchmark_latency"):
        main()
