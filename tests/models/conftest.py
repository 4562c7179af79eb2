"""A small model of the plugin's class, built through BasicSR."""

import logging
from pathlib import Path

import basicsr
import pytest
import torch
from basicsr.models import build_model

SMALL_MACR = {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2}


@pytest.fixture
def build(tmp_path):
    """Build a model from a network, with entries of ``train`` given by name."""

    def build(network=SMALL_MACR, is_train=True, num_gpu=0, **train):
        opt = {
            "name": "run",
            "model_type": "MultiScaleDeblurModel",
            "num_gpu": num_gpu,
            "dist": False,
            "rank": 0,
            "world_size": 1,
            "is_train": is_train,
            "network_g": dict(network),
            "path": {name: str(tmp_path / name) for name in ("models", "training_states", "visualization")},
            "train": {
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": []},
                "total_iter": 10,
                "pixel_opt": {"type": "L1Loss"},
                **train,
            },
            "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}},
        }
        for path in opt["path"].values():
            Path(path).mkdir(exist_ok=True)
        torch.manual_seed(0)
        return build_model(opt)

    return build


@pytest.fixture
def batch():
    """Blurred and sharp noise."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(2, 3, 32, 40, generator=generator) for name in ("lq", "gt")}


@pytest.fixture
def log(caplog):
    """What the program logs, as pytest catches it."""
    basicsr.utils.get_root_logger().propagate = True
    caplog.set_level(logging.INFO, "basicsr")
    return caplog
