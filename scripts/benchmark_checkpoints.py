"""Measure what it costs a training that nothing is lost: checks of every step, and checkpoints beside the steps.

Models of one network train side by side in one process, in many short turns, each in another order, so that what else
the machine does hits them alike. The bare one takes its steps and reads its losses every 25; a second bare one tells
how far two equal models differ here. The guarded one looks in every step for losses that are not finite, signals and
failed writing, and saves at the start of each turn; what its thread still has to write when the turn ends counts too.
The last one saves on the training thread, for comparison.

* Cost: time of a turn of the guarded model beside that of the bare one, the median over the turns.
* Steps beside a save: median of the steps that began while the thread was writing, beside the median of the others.
* Saving: how long the training waits for a save, in the background and on its own thread.

A training on a CPU that takes all its cores has none to write with: let it take one less (OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from basicsr.models import build_model
from measurement import describe_machine

from macr_plugin.basicsr_compat.signals import StopRequest
from macr_plugin.errors import one_line_errors
from macr_plugin.models.checkpoints import CheckpointWriter
from macr_plugin.models.multiscale_model import MultiScaleDeblurModel

OPTIONS = Path(__file__).parents[1] / "options" / "macr_demo.yml"
PRINT_FREQ = 25
WARM_UP_STEPS = 5


class BareModel(MultiScaleDeblurModel):
    """The model without its checks."""

    def watch_step(self, current_iter: int) -> None:
        """Look at nothing."""


@dataclass
class Times:
    """Seconds of a model.

    Attributes:
        steps: Steps while nothing was written.
        steps_beside: Steps that began while a checkpoint was written.
        saves: Calls that save.
        turns: All of a turn, and the waiting for what is still written at its end.
    """

    steps: list[float] = field(default_factory=list)
    steps_beside: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)


class Side:
    """One of the models that take turns.

    Args:
        folder: Where it saves.
        opt: Options of the network and the training.
        guarded: Whether it checks and saves.
        in_background: Whether it saves in a thread.
    """

    def __init__(self, folder: Path, opt: dict[str, Any], guarded: bool, in_background: bool) -> None:
        paths = {name: str(folder / name) for name in ("models", "training_states", "visualization")}
        for path in paths.values():
            Path(path).mkdir(parents=True)
        self.model = build_model({**opt, "path": paths, "model_type": "MultiScaleDeblurModel"})
        if not guarded:
            self.model.__class__ = BareModel
        self.model.writer = CheckpointWriter(in_background)
        self.guarded, self.stop, self.iteration, self.times = guarded, StopRequest(), 0, Times()

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """Take a step as BasicSR's loop does."""
        self.iteration += 1
        if self.guarded:
            self.stop.before_step(self.model, self.iteration)
        self.model.update_learning_rate(self.iteration)
        self.model.feed_data(batch)
        self.model.optimize_parameters(self.iteration)
        if self.iteration % PRINT_FREQ == 0:
            self.model.get_current_log()

    def take_turn(self, batch: dict[str, torch.Tensor], steps: int) -> None:
        """Save and take so many steps, timed."""
        began = now()
        if self.guarded:
            self.model.save(0, self.iteration)
            self.times.saves.append(now() - began)
        for _ in range(steps):
            is_writing, start = self.model.writer.is_writing, now()
            self.step(batch)
            (self.times.steps_beside if is_writing else self.times.steps).append(now() - start)
        self.model.finish_saving()
        self.times.turns.append(now() - began)


def now() -> float:
    """The time, once the device has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def cost(times: Times, bare: Times) -> float:
    """Percent that the turns of a model take longer than those of the bare one."""
    return round(100 * (statistics.median(map(operator.truediv, times.turns, bare.turns)) - 1), 2)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let the models take turns; returns the figures."""
    opt = yaml.safe_load(arguments.opt.read_text())
    opt = {key: opt[key] for key in ("name", "network_g", "train")}
    opt["train"]["total_iter"] = 10**9
    opt |= {"num_gpu": torch.cuda.device_count() and 1, "dist": False, "rank": 0, "world_size": 1, "is_train": True}
    sides = {}
    for name, is_guarded, in_background in (
        ("bare", False, False),
        ("bare again", False, False),
        ("guarded", True, True),
        ("guarded, saves on the training thread", True, False),
    ):
        torch.manual_seed(0)
        sides[name] = Side(folder / name, json.loads(json.dumps(opt)), is_guarded, in_background)
    size = (arguments.batch, 3, arguments.crop, arguments.crop)
    batch = {name: torch.rand(size) for name in ("lq", "gt")}
    for side in sides.values():
        for _ in range(WARM_UP_STEPS):
            side.step(batch)
    turn = list(sides.values())
    for _ in range(arguments.steps // arguments.save_every):
        for side in turn:
            side.take_turn(batch, arguments.save_every)
        turn.append(turn.pop(0))
    bare, again, guarded, waiting = (side.times for side in sides.values())
    last = sides["guarded"].iteration - arguments.save_every
    saved = sum(path.stat().st_size for path in (folder / "guarded").rglob(f"*{last}.*"))
    beside, apart = statistics.median(guarded.steps_beside), statistics.median(guarded.steps)
    return {
        "machine": describe_machine(),
        "options": f"{arguments.opt.name}, batch {arguments.batch}, crop {arguments.crop}, float32",
        "steps of each": len(bare.steps),
        "threads of a step": torch.get_num_threads(),
        "steps between saves": arguments.save_every,
        "checkpoint in MB": round(saved / 1e6, 1),
        "bare step in ms": round(1000 * statistics.median(bare.steps), 1),
        "cost in %, of nothing at all": cost(again, bare),
        "cost in %, saved in the background": cost(guarded, bare),
        "cost in %, saved on the training thread": cost(waiting, bare),
        "steps beside a save": len(guarded.steps_beside),
        "step beside a save / step apart": round(beside / apart, 3),
        "longest step beside a save in ms": round(1000 * max(guarded.steps_beside), 1),
        "save in ms, in the background": round(1000 * statistics.median(guarded.saves), 1),
        "save in ms, on the training thread": round(1000 * statistics.median(waiting.saves), 1),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-opt", type=Path, default=OPTIONS, help="network and training (default: the demo's)")
    parser.add_argument("--steps", type=int, default=500, help="steps of each model (default: 500)")
    parser.add_argument(
        "--save-every", type=int, default=50, help="steps of a turn, which begins with a checkpoint (default: 50)"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args()
    with one_line_errors("benchmark_checkpoints"), tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(json.dumps(measure(arguments, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
