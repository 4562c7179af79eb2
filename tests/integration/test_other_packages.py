"""BasicSR's own recipes and the packages built on it work as before with the plugin beside them."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

KERNELS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
PACKAGES = ("realesrgan==0.3.0", "gfpgan==1.3.8", "facexlib==0.3.0")

USES = """
import sys
import torch
import basicsr.archs, basicsr.data, basicsr.losses, basicsr.models
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
import gfpgan, realesrgan
from macr_plugin.archs.macr_arch import MACR

assert ARCH_REGISTRY.get("MACR") is MACR, "the plugin is there"
assert MODEL_REGISTRY.get("RealESRGANModel").__module__ == "realesrgan.models.realesrgan_model"
assert not hasattr(basicsr.data.build_dataloader, "__wrapped__"), "and patches nothing of theirs"
picture = torch.rand(1, 3, 64, 64)
small = realesrgan.archs.srvgg_arch.SRVGGNetCompact(num_feat=8, num_conv=1)
assert small(picture).shape == (1, 3, 256, 256)
assert realesrgan.archs.discriminator_arch.UNetDiscriminatorSN(3, num_feat=8)(picture).shape == (1, 1, 64, 64)
rrdb = ARCH_REGISTRY.get("RRDBNet")(num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1, num_grow_ch=4)
assert rrdb(picture).shape == (1, 3, 256, 256)
face = gfpgan.archs.gfpganv1_clean_arch.GFPGANv1Clean(64, num_style_feat=16, narrow=0.25, sft_half=True)
assert face(picture)[0].shape == (1, 3, 64, 64)
"""


def degradation(second):
    suffix = "2" if second else ""
    return {
        f"blur_kernel_size{suffix}": 21,
        f"kernel_list{suffix}": KERNELS,
        f"kernel_prob{suffix}": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
        f"sinc_prob{suffix}": 0.1,
        f"blur_sigma{suffix}": [0.2, 3],
        f"betag_range{suffix}": [0.5, 4],
        f"betap_range{suffix}": [1, 2],
    }


def real_esrnet_options():
    """BasicSR's options of RealESRNet, with a tiny network and a folder of its own."""
    both = {
        "resize_prob": [0.2, 0.7, 0.1],
        "resize_range": [0.15, 1.5],
        "gaussian_noise_prob": 0.5,
        "noise_range": [1, 30],
        "poisson_scale_range": [0.05, 3],
        "gray_noise_prob": 0.4,
        "jpeg_range": [30, 95],
        "second_blur_prob": 0.8,
        "resize_prob2": [0.3, 0.4, 0.3],
        "resize_range2": [0.3, 1.2],
        "gaussian_noise_prob2": 0.5,
        "noise_range2": [1, 25],
        "poisson_scale_range2": [0.05, 2.5],
        "gray_noise_prob2": 0.4,
        "jpeg_range2": [30, 95],
        "gt_size": 64,
        "queue_size": 4,
    }
    dataset = {
        "name": "folder",
        "type": "RealESRGANDataset",
        "dataroot_gt": "pictures",
        "meta_info": "meta_info.txt",
        "io_backend": {"type": "disk"},
        **degradation(second=False),
        **degradation(second=True),
        "final_sinc_prob": 0.8,
        "gt_size": 64,
        "use_hflip": True,
        "use_rot": False,
        "num_worker_per_gpu": 0,
        "batch_size_per_gpu": 2,
        "dataset_enlarge_ratio": 1,
        "prefetch_mode": None,
    }
    return {
        "name": "train_RealESRNetx4plus",
        "model_type": "RealESRNetModel",
        "scale": 4,
        "num_gpu": "auto",
        "manual_seed": 0,
        "gt_usm": True,
        **both,
        "datasets": {"train": dataset},
        "network_g": {
            "type": "RRDBNet",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 4,
            "num_block": 1,
            "num_grow_ch": 2,
        },
        "path": {"pretrain_network_g": None, "param_key_g": "params_ema", "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.999,
            "optim_g": {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [1000000], "gamma": 0.5},
            "total_iter": 4,
            "warmup_iter": -1,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 4, "use_tb_logger": False, "wandb": {"project": None}},
        "dist_params": {"backend": "nccl", "port": 29500},
    }


@pytest.mark.slow
def test_the_stock_command_trains_a_stock_recipe(tmp_path, monkeypatch, run_python):
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        cv2.imwrite(f"pictures/{name}", np.random.default_rng(0).integers(0, 256, (420, 420, 3), np.uint8))
    Path("meta_info.txt").write_text("".join(f"{name}\n" for name in names))
    Path("theirs.yml").write_text(yaml.safe_dump(real_esrnet_options()))
    status, output = run_python("-m", "basicsr.train", "-opt", "theirs.yml")
    assert status == 0, output
    assert "Model [RealESRNetModel] is created" in output
    assert [int(step) for step in re.findall(r"iter:\s*(\d+), lr", output)] == [1, 2, 3, 4]
    assert Path("experiments/train_RealESRNetx4plus/models/net_g_4.pth").is_file()


@pytest.mark.slow
def test_packages_on_basicsr_build_their_networks(tmp_path, run_python):
    """As published; without their dependencies, all of which they import is here already."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", tmp_path, *PACKAGES],
        check=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    paths = [str(tmp_path), *sys.path[1:]]
    status, output = run_python("-W", "ignore", "-c", USES, PYTHONPATH=":".join(path for path in paths if path))
    assert status == 0, output
