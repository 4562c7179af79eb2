"""Real trainings of a tiny network that faults are injected into: the one harness of these tests."""

import contextlib
import copy
import re

import cv2
import numpy as np
import torch
import yaml
from started_programs import wait_until

PAIRS = 6
SAVE_INTERVAL = 5
OPTIONS = {
    "name": "tiny",
    "model_type": "MultiScaleDeblurModel",
    "scale": 1,
    "num_gpu": "auto",
    "manual_seed": 0,
    "datasets": {
        "train": {
            "name": "train",
            "type": "DeblurPairDataset",
            "dataroot": "data/train",
            "io_backend": {"type": "disk"},
            "gt_size": 16,
            "use_hflip": True,
            "use_rot": True,
            "num_worker_per_gpu": 0,
            "batch_size_per_gpu": 2,
            "dataset_enlarge_ratio": 3,
        },
        "val": {
            "name": "val",
            "type": "DeblurPairDataset",
            "dataroot": "data/train",
            "num_frames": 2,
            "io_backend": {"type": "disk"},
            "num_worker_per_gpu": 0,
        },
    },
    "network_g": {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2, "global_skip": False},
    "path": {"pretrain_network_g": None, "resume_state": None},
    "train": {
        "ema_decay": 0.9,
        "scale_weights": [1, 1, 1],
        "optim_g": {"type": "Adam", "lr": 1e-2},
        "scheduler": {
            "type": "CosineAnnealingRestartLR",
            "periods": [1_000_000],
            "restart_weights": [1],
            "eta_min": 1e-6,
        },
        "total_iter": 60,
        "pixel_opt": {"type": "L1Loss"},
    },
    "val": {
        "val_freq": 2 * SAVE_INTERVAL,
        "save_img": False,
        "keep_best": "psnr",
        "metrics": {
            "psnr": {"type": "calculate_psnr", "crop_border": 0},
            "ssim": {"type": "calculate_ssim", "crop_border": 0},
        },
    },
    "logger": {"print_freq": 1, "save_checkpoint_freq": SAVE_INTERVAL, "use_tb_logger": True},
}


def write_pairs(folder):
    """A few pairs of smooth noise in the GoPro layout."""
    generator = np.random.default_rng(0)
    for number in range(PAIRS):
        sharp = cv2.GaussianBlur(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8), (0, 0), 1)
        for kind, picture in (("sharp", sharp), ("blur", cv2.blur(sharp, (5, 1)))):
            path = folder / "scene" / kind / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)


class Training:
    """An experiment in a folder of its own.

    Args:
        starter: Starts its processes.
        folder: Not existing yet.
        ranks: Number of gloo processes.
        changes: Options by dotted keys, with ``__`` for the dots.
    """

    def __init__(self, starter, folder, ranks=1, **changes):
        self.starter, self.folder, self.ranks = starter, folder, ranks
        self.experiment = folder / "experiments" / "tiny"
        folder.mkdir(parents=True)
        write_pairs(folder / "data" / "train")
        self.write_options(**changes)
        self._starts = 0

    def write_options(self, **changes):
        opt = copy.deepcopy(OPTIONS)
        for key, value in changes.items():
            *blocks, last = key.split("__")
            block = opt
            for name in blocks:
                block = block[name]
            block[last] = value
        (self.folder / "tiny.yml").write_text(yaml.safe_dump(opt, sort_keys=False))

    def start(self, *arguments, ranks=None):
        """Start all ranks, with ``--auto_resume`` unless other arguments are given; returns one process a rank."""
        ranks = ranks or self.ranks
        arguments = ["-opt", "tiny.yml", *(arguments or ("--auto_resume",))]
        self._starts += 1
        return self.starter.start_ranks(self.folder, arguments, [self._output(rank) for rank in range(ranks)])

    def start_until(self, step):
        """Start all ranks and wait until a step was logged."""
        processes = self.start()
        output = processes[0].output
        was_reached = wait_until(lambda: max(logged_steps(output.read_text()), default=0) >= step, processes)
        assert was_reached, output.read_text()
        return processes

    def _output(self, rank):
        return self.folder / f"output_{self._starts}_{rank}.txt"

    def run(self, *arguments, ranks=None):
        """Train to the end; returns the output of the first rank."""
        processes = self.start(*arguments, ranks=ranks)
        statuses = [process.wait() for process in processes]
        assert statuses == [0] * len(statuses), processes[0].output.read_text()
        return processes[0].output.read_text()

    def states(self):
        """Steps of which there is a whole state, which is written after its weights."""
        return sorted(int(path.stem) for path in self.experiment.glob("training_states/*.state"))

    def unfinished(self):
        return sorted(self.experiment.rglob(".*.unfinished"))

    def incomplete(self):
        """Files of checkpoints that are not whole: what is being written, and weights without their state."""
        states, files = set(self.states()), set()
        for path in [*self.unfinished(), *self.experiment.glob("models/net_g_[0-9]*.pth")]:
            # It may have got its name meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if path.name.startswith(".") or int(path.stem.split("_")[-1]) not in states:
                    files.add((path, path.stat().st_ino))
        return files

    def result(self):
        """All that a training ends with, but for the time it took."""
        last = self.states()[-1]
        models = {
            name: torch.load(self.experiment / "models" / f"net_g_{name}.pth", weights_only=True)
            for name in ("latest", "best", last)
        }
        state = torch.load(self.experiment / "training_states" / f"{last}.state", weights_only=True)
        return {"models": models, "state": state}


def logged_steps(output):
    """Steps that a log says were taken."""
    return [int(number.replace(",", "")) for number in re.findall(r"iter:\s*([\d,]+), lr", output)]


def differences(expected, found, place=""):
    """Where two results differ in any bit."""
    if isinstance(expected, torch.Tensor):
        return [] if torch.equal(expected, found) else [place]
    if isinstance(expected, dict):
        if set(expected) != set(found):
            return [place]
        return [line for key in expected for line in differences(expected[key], found[key], f"{place}/{key}")]
    if isinstance(expected, (list, tuple)):
        if len(expected) != len(found):
            return [place]
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, f"{place}/{number}")]
    return [] if expected == found else [place]
