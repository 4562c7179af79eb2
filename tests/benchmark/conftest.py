"""Small data and option files for the benchmark's tests."""

import numpy as np
import pytest
import skimage.data
import yaml
from saved_pictures import save_pair


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """An empty folder as the current directory, with pairs of two scenes in it, in GoPro's layout."""
    monkeypatch.chdir(tmp_path)
    photo = skimage.data.astronaut()[..., ::-1]
    for number in range(4):
        sharp = np.ascontiguousarray(photo[40 * number : 40 * number + 64, 100:180])
        save_pair(tmp_path / "pairs" / f"scene{number // 2}", f"{number:06d}.png", sharp)
    return tmp_path


@pytest.fixture
def write_options(working_folder):
    """Write a benchmark's option file of some entries; further blocks replace the usual ones."""

    def write(entries, name="bench.yml", **blocks):
        content = {
            "comparison_frames": 2,
            "dataset": {"name": "pairs", "dataroot": "pairs", "io_backend": {"type": "disk"}},
            "cost": {"sizes": [[32, 48]], "warm_up": 1, "runs": 3, "devices": ["cpu"]},
            "training": {
                "datasets": {
                    "train": {
                        "dataroot": "pairs",
                        "io_backend": {"type": "disk"},
                        "gt_size": 32,
                        "batch_size_per_gpu": 2,
                        "num_worker_per_gpu": 0,
                        "dataset_enlarge_ratio": 20,
                    }
                },
                "train": {
                    "optim_g": {"type": "Adam", "lr": 1e-4},
                    "scheduler": {"type": "CosineAnnealingRestartLR", "periods": None, "restart_weights": [1]},
                    "pixel_opt": {"type": "L1Loss"},
                },
            },
            "entries": entries,
            **blocks,
        }
        path = working_folder / name
        path.write_text(yaml.safe_dump(content))
        return path

    return write
