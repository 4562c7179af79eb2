"""Measure bare training steps: images a second, memory and operations of each setting, over the batch.

The batch is on the device already and stays the same: what is measured is forward, losses at all scales, backward and
update. The whole loop with its reading is what ``benchmark_training.py`` measures.

* Operations: what PyTorch dispatches in one plain step, but for views; on a GPU each is a kernel or a copy.
* ``--numerics`` compares the losses over some steps instead: bf16 with fp32, captured with eager.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import basicsr  # noqa: F401  registers the plugin
import torch
from basicsr.models import build_model
from curves import Curve, draw_curves
from measurement import add_output_options, check_plot, describe_machine, markdown_table, one_line, write_json
from tqdm import tqdm

from macr_plugin.benchmark.measuring.cost import one_sentence
from macr_plugin.benchmark.measuring.operations import count_operations
from macr_plugin.errors import one_line_errors
from macr_plugin.inference.restorer import find_device
from macr_plugin.models.multiscale_model import MultiScaleDeblurModel

ALL_AUTO = dict.fromkeys(("precision", "channels_last", "compile", "cuda_graph"), "auto")
#: Each setting alone, then together.
SETTINGS: dict[str, dict[str, Any]] = {
    "off": {},
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "channels_last": {"channels_last": True},
    "cuda_graph": {"cuda_graph": True},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
    "bf16, channels_last, cuda_graph": {"precision": "bf16", "channels_last": True, "cuda_graph": True},
    "compile": {"compile": True},
    "all auto": ALL_AUTO,
}
#: Settings that a CPU has no use for, or that take minutes there.
GPU_ONLY = ("fp16", "cuda_graph", "bf16, channels_last, cuda_graph", "compile", "all auto")


def build(setting: dict[str, Any], arguments: argparse.Namespace, device: torch.device) -> MultiScaleDeblurModel:
    """MACR with the paper's loss and Adam, in a setting."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        return build_model(
            {
                "name": "benchmark",
                "model_type": "MultiScaleDeblurModel",
                "num_gpu": int(device.type == "cuda"),
                "dist": False,
                "rank": 0,
                "world_size": 1,
                "is_train": True,
                "network_g": {"type": "MACR", "num_feat": arguments.num_feat, "num_blocks": arguments.num_blocks},
                "path": {"models": folder, "training_states": folder},
                "train": {
                    "optim_g": {"type": "Adam", "lr": 1e-4},
                    "scheduler": {"type": "MultiStepLR", "milestones": []},
                    "pixel_opt": {"type": "MACRLoss"},
                    "acceleration": setting,
                },
            }
        )


def make_batch(size: int, crop: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Sharp pictures with some structure, and the same with a box blur."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(size, 3, crop // 4, crop // 4, generator=generator)
    sharp = torch.nn.functional.interpolate(coarse, size=(crop, crop), mode="bicubic").clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(sharp, (1, 9), stride=1, padding=(0, 4), count_include_pad=False)
    return {"lq": blurred.to(device), "gt": sharp.to(device)}


def take_steps(model: MultiScaleDeblurModel, batch: dict[str, torch.Tensor], steps: int) -> None:
    for iteration in range(steps):
        model.feed_data(batch)
        model.optimize_parameters(iteration + 1)


def measure(name: str, size: int, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One setting at one batch size."""
    row: dict[str, Any] = {"setting": name, "batch": size, "images a second": None, "error": None}
    try:
        if device.type == "cuda":
            # The model before refers to itself: its weights and captured steps would count for this one.
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model, batch = build(SETTINGS[name], arguments, device), make_batch(size, arguments.crop, device)
        take_steps(model, batch, arguments.warm_up)
        if name == "off":
            row["operations a step"] = count_operations(lambda: take_steps(model, batch, 1))
        rates = []
        for _ in range(arguments.rounds):
            model.get_current_log()
            start = time.perf_counter()
            take_steps(model, batch, arguments.steps)
            model.get_current_log()
            rates.append(size * arguments.steps / (time.perf_counter() - start))
        row["images a second"], row["lowest"], row["highest"] = statistics.median(rates), min(rates), max(rates)
        row["captured"] = model.training_step._graph is not None
        if device.type == "cuda":
            row["peak memory in MiB"] = torch.cuda.max_memory_allocated() / 2**20
    # A setting that fails is a row, and the others are measured.
    except Exception as error:
        row["error"] = one_sentence(error)
    return row


def compare_numerics(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Losses and weights after some steps in each setting, beside those of float32."""
    batch = make_batch(arguments.batch[0], arguments.crop, device)
    losses: dict[str, float] = {}
    weights: dict[str, torch.Tensor] = {}
    # On a CPU layout stands for what changes rounding alone.
    settings = ["fp32", "bf16", "channels_last"] + ["bf16, channels_last, cuda_graph"] * (device.type == "cuda")
    for name in settings:
        model = build(SETTINGS[name], arguments, device)
        take_steps(model, batch, arguments.steps)
        losses[name] = model.get_current_log()["l_pix"]
        weights[name] = torch.cat([weight.detach().flatten().float().cpu() for weight in model.net_g.parameters()])
    norm = weights["fp32"].norm()
    return [
        {
            "setting": name,
            "steps": arguments.steps,
            "loss": losses[name],
            "loss, relative to fp32": losses[name] / losses["fp32"] - 1,
            "weights, relative to fp32": ((weights[name] - weights["fp32"]).norm() / norm).item(),
        }
        for name in settings
    ]


def write_table(rows: Sequence[dict[str, Any]]) -> str:
    """All rows as a Markdown table; numbers are rounded."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "error"))
    cells = [[row.get(name) for name in names] for row in rows]
    texts = [
        [f"{one:.4g}" if isinstance(one, float) else str("-" if one is None else one) for one in row] for row in cells
    ]
    errors = [row["error"] for row in rows if row.get("error")]
    return "\n".join([markdown_table(names, texts), *errors])


def draw(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Seconds of a plain step over the batch."""
    plain = [row for row in rows if row["setting"] == "off" and row["images a second"]]
    batches = [row["batch"] for row in plain]
    seconds = [row["batch"] / row["images a second"] for row in plain]
    rates = [row["images a second"] for row in plain]
    curves = [Curve("time of a step", "batch", "seconds", batches, seconds)]
    draw_curves([*curves, Curve("throughput", "batch", "images a second", batches, rates)], title, path)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, help="default: all that the device has a use for")
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--num-feat", type=int, default=64)
    parser.add_argument("--num-blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="steps of a round (default: 20)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=8, help="steps before the first round (default: 8)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--numerics", action="store_true", help="compare losses instead of times")
    add_output_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    check_plot(options.plot)
    device = find_device(options.device)
    if options.numerics:
        rows = compare_numerics(options, device)
    else:
        chosen = options.settings or [one for one in SETTINGS if device.type == "cuda" or one not in GPU_ONLY]
        pairs = [(name, size) for size in options.batch for name in chosen]
        rows = [measure(name, size, options, device) for name, size in tqdm(pairs, unit="setting")]
    machine = {**describe_machine(), "threads": torch.get_num_threads()}
    network = f"MACR with {options.num_feat} channels and {options.num_blocks} blocks, crops of {options.crop}"
    print(one_line(machine))
    print(f"{network}\n\n{write_table(rows)}")
    write_json(options.json, {"machine": machine, "network": network, "rows": rows})
    if options.plot:
        draw(rows, f"one training step, {network}", options.plot)


if __name__ == "__main__":
    with one_line_errors("benchmark_steps"):
        main()
