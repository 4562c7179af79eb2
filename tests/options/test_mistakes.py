"""Mistakes made in the files that we ship: each is named with file, line, column and key, before a folder is made."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import pytest
import yaml
from basicsr.utils import options
from stock_options import STOCK_OPTIONS

from macr_plugin.basicsr_compat import program
from macr_plugin.errors import InputErrors
from macr_plugin.options.blocks import LONGEST_NAME
from macr_plugin.options.check import check_option_file, find_problems
from macr_plugin.training_program import patch_this_program

OPTIONS = Path(__file__).parents[2] / "options"
BASE = yaml.safe_load((OPTIONS / "macr_gopro.yml").read_text())
GAN = yaml.safe_load((OPTIONS / "baselines" / "deepdeblur_gan_gopro.yml").read_text())
SYNTHETIC = yaml.safe_load((OPTIONS / "macr_synthetic.yml").read_text())
STEPS = {"type": "MultiStepLR", "milestones": [1000], "gamma": 0.5}
STOCK = {
    "name": "run",
    "num_gpu": "auto",
    "path": {},
    "logger": {"print_freq": 1, "save_checkpoint_freq": 1},
    **copy.deepcopy(STOCK_OPTIONS["SRResNet"]),
}
STOCK["datasets"]["train"].update(name="train", batch_size_per_gpu=16, num_worker_per_gpu=6)


def keys_of(block, prefix=()):
    """Places of all keys of a file."""
    for key, value in block.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*prefix, key))


def block_at(opt, place):
    for key in place:
        opt = opt[key]
    return opt


def dotted(place):
    return ".".join(place)


def problems_with(base, place, value):
    opt = copy.deepcopy(base)
    block_at(opt, place[:-1])[place[-1]] = value
    return [str(problem) for problem in find_problems(opt)]


def may_have_any_name(place):
    """Metrics and networks are named by the user."""
    return place[:2] == ("val", "metrics") and len(place) == 3


#: Keys without which no file can be described at all.
MISSPELT = [place for place in keys_of(BASE) if not may_have_any_name(place)]


@pytest.mark.parametrize("place", MISSPELT, ids=dotted)
def test_a_misspelt_key_is_named(place):
    opt = copy.deepcopy(BASE)
    block = block_at(opt, place[:-1])
    wrong = place[-1] + "x"
    block[wrong] = block.pop(place[-1])
    named = [str(problem) for problem in find_problems(opt)]
    assert any(line.startswith((dotted((*place[:-1], wrong)), dotted(place))) for line in named), named


#: Values of no type that the key may have.
WRONG = {dict: "text", list: {"a": 1}, bool: "yes please", int: "many", float: "much", str: ["a", {}]}
#: BasicSR's metrics say nothing of the types of their arguments.
TYPED = [place for place in keys_of(BASE) if block_at(BASE, place) is not None and place[-1] != "crop_border"]


@pytest.mark.parametrize("place", TYPED, ids=dotted)
def test_a_value_of_the_wrong_type_is_named(place):
    value = block_at(BASE, place)
    named = problems_with(BASE, place, WRONG[type(value)])
    assert any(line.startswith(dotted(place)) for line in named), named


RIDNET = {"type": "RIDNet", "in_channels": 3, "mid_channels": 8, "out_channels": 3}

#: File, key, value that it gets, and what must be said about it.
BROKEN = [
    (BASE, "network_h", {"type": "MACR"}, "network_h: unknown key 'network_h': did you mean network_"),
    (BASE, "train.pixel_opt", None, "train.pixel_opt: is missing: a training needs a loss"),
    (BASE, "train.scheduler", {**STEPS, "milestones": [-5]}, "train.scheduler.milestones: is [-5]: it must be a list"),
    (
        BASE,
        "train.scheduler",
        {**STEPS, "milestones": [1.5]},
        "train.scheduler.milestones: is [1.5]: it must be a list",
    ),
    (BASE, "train.scheduler", {**STEPS, "gamma": -0.5}, "train.scheduler.gamma: is -0.5: it must be a factor"),
    (BASE, "train.scheduler", {**STEPS, "gamma": [1]}, "train.scheduler.gamma: is [1]: it must be a factor"),
    (GAN, "train.acceleration", {"precision": "fp16"}, "train.acceleration.precision: is fp16: "),
    (GAN, "train.acceleration", {"compile": True}, "train.acceleration.compile: is true: "),
    (SYNTHETIC, "datasets.train.averaging", [], "datasets.train.averaging: is []: it must"),
    (SYNTHETIC, "datasets.train.jpeg_quality", [0, 101], "datasets.train.jpeg_quality[0]: is 0: it must"),
    (STOCK, "datasets.train.batch_size_per_gpu", 0, "datasets.train.batch_size_per_gpu: is 0: it must be greater"),
    (STOCK, "datasets.train.num_worker_per_gpu", "x", "datasets.train.num_worker_per_gpu: is 'x': it must be a whole"),
    (STOCK, "datasets.train.gt_size", "x", "datasets.train.gt_size: is 'x': it must be a whole number"),
    (
        STOCK,
        "datasets.train.dataset_enlarge_ratio",
        0,
        "datasets.train.dataset_enlarge_ratio: is 0: it must be greater",
    ),
    (STOCK, "datasets.train.prefetch_mode", "foo", "datasets.train.prefetch_mode: is 'foo': it must be one of"),
    (
        STOCK,
        "datasets.train.io_backend",
        {"type": "foo"},
        "datasets.train.io_backend.type: is 'foo': it must be one of",
    ),
    (STOCK, "datasets.foo", {"type": "PairedImageDataset"}, "datasets.foo: unknown phase 'foo': "),
    (STOCK, "datasets.train.name", None, "datasets.train.name: is missing: BasicSR reads it"),
    (STOCK, "datasets.train", None, "datasets.train: is"),
    (STOCK, "train.total_iter", "many", "train.total_iter: is 'many': it must be a whole number"),
    (STOCK, "train.total_iter", -1, "train.total_iter: is -1: it must be greater than or equal to 1"),
    (STOCK, "train.total_iter", None, "train.total_iter: is missing: BasicSR reads it"),
    (STOCK, "train.warmup_iter", "x", "train.warmup_iter: is 'x': it must be a whole number"),
    (STOCK, "train.ema_decay", 3, "train.ema_decay: is 3: it must be less than or equal to 1"),
    (STOCK, "train.scheduler", None, "train.scheduler: is missing: BasicSR reads it"),
    (STOCK, "train.scheduler.type", "Foo", "train.scheduler.type: unknown scheduler 'Foo': "),
    (STOCK, "train.optim_g", None, "train.optim_g: is missing: BasicSR reads it"),
    (STOCK, "train.optim_g.type", "Foo", "train.optim_g.type: unknown optimizer 'Foo': "),
    (STOCK, "train.optim_g.type", "AdamW", "train.optim_g.type: unknown optimizer 'AdamW': did you mean Adam?"),
    (STOCK, "train.optim_g.type", "SGD", "train.optim_g.type: unknown optimizer 'SGD': known are Adam"),
    (STOCK, "train.scheduler.type", "OneCycleLR", "train.scheduler.type: unknown scheduler 'OneCycleLR': "),
    (STOCK, "train", None, "train: is missing: BasicSR reads it"),
    (STOCK, "network_g", None, "network_g: is missing: BasicSR reads it"),
    (STOCK, "logger", None, "logger.print_freq: is missing: BasicSR reads it"),
    (STOCK, "logger.save_checkpoint_freq", None, "logger.save_checkpoint_freq: is missing: BasicSR reads it"),
    (STOCK, "logger.use_tb_logger", "maybe", "logger.use_tb_logger: is 'maybe': it must be true or false"),
    (STOCK, "val.val_freq", None, "val.val_freq: is missing: BasicSR reads it"),
    (STOCK, "scale", "x", "scale: is 'x': it must be a whole number"),
    (STOCK, "path.foo", None, "path.foo: is None: BasicSR makes a folder of it"),
    (BASE, "name", "n" * 300, f"name: is str: it must be a name of at most {LONGEST_NAME} bytes that can be printed"),
    (BASE, "name", "a\nb", "name: is 'a\\nb': it must be a name of at most"),
    (STOCK, "name", "é" * 100, "name: is"),
    (BASE, "datasets.val.name", "n" * 300, "datasets.val.name: is str: it must be a name of at most"),
    (BASE, "name", "../../evil", "name: is '../../evil': it must be the name of one folder, without / or .."),
    (BASE, "name", "a/b", "name: is 'a/b'"),
    (BASE, "name", "..", "name: is '..'"),
    (BASE, "name", " ", "name: is ' '"),
    (BASE, "scale", 4, "scale: is 4"),
    (BASE, "num_gpu", -1, "num_gpu: is -1"),
    (BASE, "num_gpu", "all", "num_gpu: is 'all'"),
    (BASE, "manual_seed", -1, "manual_seed: is -1: it must be greater than or equal to 0"),
    (
        BASE,
        "path.pretrain_netwrok_g",
        "x",
        "path.pretrain_netwrok_g: unknown key 'pretrain_netwrok_g': did you mean ",
    ),
    (BASE, "path.models", "x", "path.models: unknown key"),
    (BASE, "train.total_iter", 0, "train.total_iter: is 0: it must be greater than or equal to 1"),
    (BASE, "train.warmup_iter", -2, "train.warmup_iter: is -2"),
    (BASE, "train.on_nonfinite", "ignore", "train.on_nonfinite: is 'ignore': it must be one of"),
    (BASE, "logger.keep_last", 0, "logger.keep_last: is 0"),
    (BASE, "train.ema_decay", 1, "train.ema_decay: is 1"),
    (BASE, "train.ema_decay", "1e-4", "train.ema_decay: YAML reads 1e-4 as text: write !!float 1e-4"),
    (BASE, "train.grad_clip_norm", 0, "train.grad_clip_norm: is 0"),
    (BASE, "train.scale_weights", [1, 1], "train.scale_weights: has 2 weights and MACR returns 3 scale(s)"),
    (BASE, "train.scale_weights", [0, 0, 0], "train.scale_weights: are all 0"),
    (BASE, "train.scale_weights", [1, -1, 1], "train.scale_weights[1]: is -1"),
    (BASE, "train.optim_g.type", "Adma", "train.optim_g.type: unknown optimizer 'Adma': did you mean Adam"),
    (BASE, "train.optim_g.lrr", 1, "train.optim_g.lrr: unknown option of Adam 'lrr': did you mean lr?"),
    (BASE, "train.optim_g.lr", -1, "train.optim_g.lr: is -1: it must be 0 or more"),
    (BASE, "train.optim_g.lr", float("nan"), "train.optim_g.lr: is nan"),
    (BASE, "train.scheduler.type", "Cosine", "train.scheduler.type: unknown scheduler 'Cosine'"),
    (BASE, "train.scheduler.gama", 1, "train.scheduler.gama: unknown option of "),
    (BASE, "val.val_freq", 0, "val.val_freq: is 0: it must be greater than or equal to 1"),
    (BASE, "val.keep_best", "lpips", "val.keep_best: unknown metric of val.metrics 'lpips'"),
    (BASE, "val.metrics.psnr.crop_boder", 4, "val.metrics.psnr.crop_boder: unknown option of calculate_psnr"),
    (BASE, "logger.print_freq", 0, "logger.print_freq: is 0"),
    (BASE, "logger.save_checkpoint_freq", 0, "logger.save_checkpoint_freq: is 0"),
    (BASE, "logger.wandb.projct", "x", "logger.wandb.projct: unknown key 'projct': did you mean project?"),
    (BASE, "dist_params.port", 0, "dist_params.port: is 0"),
    (
        BASE,
        "dist_params.backend",
        "ncll",
        "dist_params.backend: is 'ncll': it must be one of 'nccl', 'gloo' or 'mpi'",
    ),
    (BASE, "datasets.train.gt_size", 2, "datasets.train.gt_size: is 2: MACR with 3 scales needs at least 16"),
    (BASE, "datasets.train.gt_size", None, "datasets.train.gt_size: is missing"),
    (BASE, "datasets.train.batch_size_per_gpu", 0, "datasets.train.batch_size_per_gpu: is 0"),
    (BASE, "datasets.train.prefetch_mode", "gpu", "datasets.train.prefetch_mode: is 'gpu'"),
    (BASE, "datasets.train.io_backend.tpye", "x", "datasets.train.io_backend.tpye: unknown key"),
    (
        BASE,
        "datasets.train.io_backend.type",
        "lmbd",
        "datasets.train.io_backend.type: is 'lmbd': it must be one of",
    ),
    (
        BASE,
        "datasets.train.dataroot_lq",
        "datasets/GoPro/train_sharp.lmdb",
        "datasets.train.dataroot_lq: is the same",
    ),
    (BASE, "datasets.train.blur", "gamma", "datasets.train.blur: is 'gamma'"),
    (BASE, "datasets.val.num_frames", 0, "datasets.val.num_frames: is 0"),
    (
        BASE,
        "datasets.trian",
        {"type": "DeblurPairDataset"},
        "datasets.trian: unknown phase 'trian': did you mean train",
    ),
    (
        SYNTHETIC,
        "datasets.train.blur_extent",
        [9, 3],
        "datasets.train.blur_extent: is [9, 3]: write the smallest first",
    ),
    (SYNTHETIC, "datasets.train.sharp_share", 2, "datasets.train.sharp_share: is 2"),
    (SYNTHETIC, "datasets.train.render_on", "gpu", "datasets.train.render_on: is 'gpu'"),
    (GAN, "train.net_d_iters", 0, "train.net_d_iters: is 0"),
    (GAN, "train.optim_d.lr", "1e-4", "train.optim_d.lr: YAML reads 1e-4 as text"),
    (BASE, "name", 7, "name: is 7: it must be text"),
    (BASE, "name", "/tmp/evil", "name: is '/tmp/evil'"),
    (BASE, "name", "a\\b", "name: is 'a\\\\b'"),
    (BASE, "datasets.val.name", "../../evil", "datasets.val.name: is '../../evil': it must be the name of one folder"),
    (BASE, "datasets.val.name", "/tmp/evil", "datasets.val.name: is '/tmp/evil'"),
    (BASE, "val.suffix", "../../evil", "val.suffix: is '../../evil': it is a part of file names, without /"),
    (BASE, "datasets.train", "GoPro", "datasets.train: is 'GoPro': it must be keys and values below it"),
    (BASE, "datasets", [], "datasets: is []"),
    (BASE, "train", [1], "train: is [1]: it must be keys and values below it"),
    (BASE, "val.metrics", ["psnr"], "val.metrics: is ['psnr']: it must be keys and values below it"),
    (BASE, "val.metrics.psnr", "calculate_psnr", "val.metrics.psnr: is 'calculate_psnr'"),
    (BASE, "val.metrics.psnr.crop_border", "4", "val.metrics.psnr.crop_border: YAML reads 4 as text"),
    (BASE, "val.metrics.psnr.crop_border", -1, "val.metrics.psnr.crop_border: is -1: it must be a whole number"),
    (BASE, "val.metrics.psnr.crop_border", 1.5, "val.metrics.psnr.crop_border: is 1.5: it must be a whole number"),
    (BASE, "val.metrics.psnr.test_y_channel", [1], "val.metrics.psnr.test_y_channel: is [1]: it must be true or"),
    (BASE, "val.metrics.psnr.input_order", "BGR", "val.metrics.psnr.input_order: is 'BGR': it must be HWC or CHW"),
    (BASE, "train.total_iter", 1.5, "train.total_iter: is 1.5: it must be a whole number"),
    (BASE, "train.total_iter", "1e5", "train.total_iter: YAML reads 1e5 as text: write !!float 1e5"),
    (BASE, "train.total_iter", None, "train.total_iter: is empty: it must be a whole number"),
    (BASE, "train.warmup_iter", "many", "train.warmup_iter: is 'many'"),
    (BASE, "train.acceleration.precision", "fp8", "train.acceleration.precision: is 'fp8': it must be one of"),
    (BASE, "train.optim_g", {"type": "LBFGS"}, "train.optim_g.type: unknown optimizer 'LBFGS'"),
    (BASE, "train.optim_g", {"type": "SGD", "betas": [0.9, 0.99]}, "train.optim_g.betas: unknown option of SGD"),
    (BASE, "train.optim_g", {"type": "SGD", "momentum": -1}, "train.optim_g: SGD refuses these options: Invalid mo"),
    (BASE, "train.optim_g.betas", [0.9], "train.optim_g: Adam refuses these options: "),
    (BASE, "train.optim_g.betas", [0.9, 2], "train.optim_g: Adam refuses these options: Invalid beta parameter"),
    (BASE, "train.optim_g.weight_decay", "none", "train.optim_g.weight_decay: is 'none': it must be a number"),
    (BASE, "train.optim_g.weight_decay", -1, "train.optim_g: Adam refuses these options: Invalid weight_decay"),
    (BASE, "train.scheduler", {"type": "CosineAnnealingLR"}, "train.scheduler.T_max: is missing: CosineAnnealingLR"),
    (BASE, "train.scheduler", {"type": "LambdaLR"}, "train.scheduler.type: unknown scheduler 'LambdaLR'"),
    (BASE, "train.scheduler", {"type": "StepLR", "step_size": 0}, "train.scheduler: StepLR refuses these options"),
    (BASE, "train.scheduler", {"type": "PolynomialLR"}, "train.scheduler.total_iters: is 5, fewer than train.total"),
    (
        BASE,
        "train.scheduler",
        {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 3},
        "train.scheduler.total_steps: is 3, fewer than train.total_iter 3153000: make it as long",
    ),
    (
        BASE,
        "train.scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [10, 20]},
        "train.scheduler.periods: add up to 30, fewer than train.total_iter 3153000",
    ),
    (
        BASE,
        "train.scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [4000000], "restart_weights": [1, 1]},
        "train.scheduler.restart_weights: is [1, 1]: give one for each of the 1 periods",
    ),
    (BASE, "train.scheduler.milestones", "late", "train.scheduler.milestones: is 'late'"),
    (BASE, "train.pixel_opt", {"type": "L1Loss", "reduction": "avg"}, "train.pixel_opt: L1Loss refuses these opti"),
    (BASE, "train.pixel_opt.l1_weight", "0.3x", "train.pixel_opt.l1_weight: is '0.3x': it must be a number"),
    (BASE, "network_g.num_blocks", 0, "network_g: MACR refuses these options: network_g.num_blocks of MACR is at"),
    (BASE, "network_g.num_feat", -3, "network_g: MACR refuses these options: "),
    (BASE, "network_g.num_feat", "64", "network_g.num_feat: YAML reads 64 as text"),
    (BASE, "network_g.block", "acrbs", "network_g.block: is 'acrbs': it must be one of"),
    (BASE, "network_g", "MACR", "network_g: is 'MACR': write type and arguments below it"),
    (
        BASE,
        "network_g",
        {"type": "RIDNet", "in_channels": 3, "mid_channels": 8, "out_channels": 3},
        "train.scale_weights: ",
    ),
    (BASE, "datasets.train.gt_size", 8, "datasets.train.gt_size: is 8: MACR with 3 scales needs at least 16"),
    (BASE, "datasets.train.gt_size", 40, "datasets.train.gt_size: is 40, 10 at scale 3: MACRLoss: a picture of 10"),
    (BASE, "datasets.train.gt_size", "256", "datasets.train.gt_size: YAML reads 256 as text"),
    (BASE, "datasets.train.batch_size_per_gpu", None, "datasets.train.batch_size_per_gpu: is missing"),
    (BASE, "datasets.train.num_worker_per_gpu", -1, "datasets.train.num_worker_per_gpu: is -1"),
    (BASE, "datasets.train.num_worker_per_gpu", 0, "datasets.train.persistent_workers: needs num_worker_per_gpu of"),
    (BASE, "datasets.train.io_backend", "lmdb", "datasets.train.io_backend: is 'lmdb'"),
    (BASE, "datasets.train.type", "DeblurPairs", "datasets.train.type: unknown dataset 'DeblurPairs'"),
    (BASE, "datasets.train.dataroot_lq", "datasets/GoPro/../GoPro/train_sharp.lmdb/", "datasets.train.dataroot_lq: "),
    (BASE, "logger.use_tb_logger", "yes please", "logger.use_tb_logger: is 'yes please': it must be true or false"),
    (BASE, "logger.print_freq", 0.5, "logger.print_freq: is 0.5: it must be a whole number"),
    (BASE, "path.strict_load_g", "no", "path.strict_load_g: is 'no'"),
    (BASE, "find_unused_parameters", 2, "find_unused_parameters: is 2"),
    (SYNTHETIC, "datasets.train.blur_extent", [3], "datasets.train.blur_extent: is [3]"),
    (SYNTHETIC, "datasets.train.blur_extent", [-1, 3], "datasets.train.blur_extent[0]: is -1"),
    (GAN, "network_d", None, "network_d: is missing"),
    (GAN, "train.gan_opt.gan_type", "lsgam", "train.gan_opt: GANLoss refuses these options: "),
    (STOCK, "logger.print_freq", 0, "logger.print_freq: is 0: it must be greater than or equal to 1"),
    (
        STOCK,
        "logger.save_checkpoint_freq",
        0,
        "logger.save_checkpoint_freq: is 0: it must be greater than or equal to 1",
    ),
    (STOCK, "val.val_freq", 0, "val.val_freq: is 0: it must be greater than or equal to 1"),
    (STOCK, "name", "../../evil", "name: is '../../evil': it must be the name of one folder"),
    (STOCK, "datasets.val.name", "../../evil", "datasets.val.name: is '../../evil': it must stay in the folder"),
    (BASE, "train.print_freq", 5, "train.print_freq: unknown key 'print_freq': "),
    (BASE, "logger.val_freq", 5, "logger.val_freq: unknown key 'val_freq': "),
    (BASE, "val.gt_size", 5, "val.gt_size: unknown key 'gt_size': "),
    (BASE, "path.save_img", True, "path.save_img: unknown key 'save_img': "),
    (BASE, "num_gpu", "1", "num_gpu: YAML reads 1 as text: write it without quotes"),
    (BASE, "val.val_freq", "5e3", "val.val_freq: YAML reads 5e3 as text: write !!float 5e3"),
    (BASE, "train.total_iter", float("inf"), "train.total_iter: is inf: it must be a whole number"),
    (BASE, "train.optim_g.weight_decay", True, "train.optim_g.weight_decay: is True: it must be a number"),
    (BASE, "train.pixel_opt", {"type": "L1Loss", "loss_weight": float("nan")}, "train.pixel_opt.loss_weight: is nan"),
    (BASE, "train.pixel_opt", {"type": "L1Loss", "loss_weight": None}, "train.pixel_opt.loss_weight: is empty: it mu"),
    (BASE, "train.pixel_opt", {"type": "L1Loss", "loss_weight": [1]}, "train.pixel_opt.loss_weight: is [1]: it must"),
    (BASE, "train.pixel_opt", {"type": "L1Loss", "loss_weight": True}, "train.pixel_opt.loss_weight: is True: it mu"),
    (
        BASE,
        "train.scheduler",
        {"type": "StepLR", "step_size": 5, "gamma": True},
        "train.scheduler.gamma: is True: it must be a number",
    ),
    (
        BASE,
        "train.scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [4000000], "restart_weights": ["a"]},
        "train.scheduler.restart_weights: is ['a']: give one for each of the 1 periods",
    ),
    (BASE, "train.scheduler", {**STEPS, "restarts": ["a"]}, "train.scheduler.restarts: is ['a']: it must be a list of"),
    (GAN, "train.gan_opt", 5, "train.gan_opt: is 5: it must be keys and values below it"),
    (GAN, "train.net_d_init_iters", -1, "train.net_d_init_iters: is -1: it must be greater than or equal to 0"),
    (STOCK, "val.metrics", 5, "val.metrics: is 5: it must be keys and values below it"),
    (STOCK, "val.metrics", [], "val.metrics: is []: it must be keys and values below it"),
    (STOCK, "val.metrics.psnr.crop_border", float("nan"), "val.metrics.psnr.crop_border: is nan: it must be a whole"),
    (STOCK, "path", [], "path: is []: it must be keys and values below it"),
    (STOCK, "path.pretrain_network_g", 5, "path.pretrain_network_g: is 5: it must be text"),
    (STOCK, "path.resume_state", True, "path.resume_state: is True: it must be text"),
    (STOCK, "path.strict_load_g", "no", "path.strict_load_g: is 'no': it must be true or false"),
    (STOCK, "path.param_key_g", 5, "path.param_key_g: is 5: it must be text"),
    (STOCK, "path.ignore_resume_networks", 5, "path.ignore_resume_networks: is 5: it must be a list such as"),
    (STOCK, "dist_params", {"backen": "nccl"}, "dist_params.backen: unknown key 'backen': did you mean backend?"),
    (STOCK, "dist_params", {"port": "29500"}, "dist_params.port: YAML reads 29500 as text: write it without quotes"),
    (STOCK, "logger.wandb", "mine", "logger.wandb: is 'mine': it must be keys and values below it"),
    (STOCK, "datasets.val.dataroot_gt", ["a"], "datasets.val.dataroot_gt: is ['a']: it must be text"),
    (STOCK, "datasets.val.dataroot_gt", "gone", "datasets.val.dataroot_gt: gone does not exist: correct the path"),
    (STOCK, "datasets.train.meta_info_file", "gone", "datasets.train.meta_info_file: gone does not exist: correct"),
    (STOCK, "datasets.train.use_hflip", "no", "datasets.train.use_hflip: is 'no': it must be true or false"),
    (STOCK, "datasets.train.use_rot", 5, "datasets.train.use_rot: is 5: it must be true or false"),
    (STOCK, "datasets.train.io_backend", None, "datasets.train.io_backend: is empty: it must be keys and values"),
    (STOCK, "datasets.train.dataset_enlarge_ratio", float("inf"), "datasets.train.dataset_enlarge_ratio: is inf: it"),
    (STOCK, "datasets.train.pin_memory", "x", "datasets.train.pin_memory: is 'x': it must be true or false"),
    (STOCK, "datasets.train.num_prefetch_queue", "x", "datasets.train.num_prefetch_queue: is 'x': it must be a whole"),
    (STOCK, "datasets.val", [], "datasets.val: is []: it must be keys and values below it"),
    (STOCK, "train.optim_g", [], "train.optim_g: is []: write type and arguments below it"),
    (STOCK, "train.optim_g.lr", -1, "train.optim_g.lr: is -1: it must be 0 or more"),
    (STOCK, "train.optim_g.lr", None, "train.optim_g.lr: is None: it must be 0 or more"),
    (STOCK, "train.optim_g.betas", 0.9, "train.optim_g: Adam refuses these options: "),
    (STOCK, "train.optim_g.eps", -1, "train.optim_g: Adam refuses these options: Invalid epsilon value"),
    (STOCK, "train.scheduler", "MultiStepLR", "train.scheduler: is 'MultiStepLR': write type and arguments below it"),
    (
        STOCK,
        "train.scheduler",
        {**STEPS, "restarts": [0, 4], "restart_weights": [1]},
        "train.scheduler: MultiStepLR refuses these options: restarts and their weights do not match",
    ),
    (STOCK, "train.pixel_opt", 5, "train.pixel_opt: is 5: write type and arguments below it"),
    (STOCK, "train.pixel_opt", {"type": "L1Loss", "reduction": "avg"}, "train.pixel_opt: L1Loss refuses these opti"),
    (STOCK, "train.net_d_iters", 0, "train.net_d_iters: is 0: it must be greater than or equal to 1"),
    (STOCK, "network_g", [], "network_g: is []: write type and arguments below it"),
    (STOCK, "network_d", 5, "network_d: is 5: write type and arguments below it"),
    (STOCK, "logger", [], "logger: is []: it must be keys and values below it"),
]


@pytest.mark.parametrize(("base", "key", "value", "message"), BROKEN)
def test_a_broken_file_ends_the_command_with_its_line(
    base, key, value, message, tmp_path, monkeypatch, restored_basicsr, capsys
):
    """Exit status 2, no traceback, one line for the mistake with its place, and no folder is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(program.TRAINING_PROCESS_VARIABLE, "")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", "broken.yml"])
    opt = copy.deepcopy(base)
    *blocks, last = key.split(".")
    block_at(opt, blocks)[last] = value
    Path("broken.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    patch_this_program()
    with pytest.raises(SystemExit) as ended:
        options.parse_options(str(tmp_path))
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if re.match(rf".*: error: broken\.yml:\d+:\d+: {re.escape(message)}", line)]
    assert int(line.split(":")[3]) == line_of_key(opt, message.split(": ")[0]), line
    assert all("broken.yml:" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yml"]


def line_of_key(opt, key):
    """Line in which a key stands, or the block that it is missing from: found by putting a mark there."""
    marked = copy.deepcopy(opt)
    places = key.split("[")[0].split(".")
    while places:
        block = marked
        for part in places[:-1]:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict) and places[-1] in block:
            break
        places.pop()
    if not places:
        return 1
    block[places[-1]] = "here it is"
    lines = yaml.safe_dump(marked, sort_keys=False).splitlines()
    line = next(number for number, line in enumerate(lines, 1) if line.endswith(": here it is"))
    index = re.search(r"\[(\d+)\]", key)
    return line + 1 + int(index[1]) if index else line


@pytest.mark.parametrize("phases", [("val", "val_2"), ("val_1", "val_2"), ("test_1", "test_2")])
def test_two_sets_of_one_name_are_named(phases):
    """Each would overwrite the pictures and best figures of the other."""
    opt = copy.deepcopy(BASE)
    sets = {phase: copy.deepcopy(opt["datasets"]["val"]) for phase in phases}
    opt["datasets"] = {"train": {**opt["datasets"]["train"], "name": sets[phases[0]]["name"]}, **sets}
    name = sets[phases[0]]["name"]
    assert [str(problem) for problem in find_problems(opt)] == [
        f"datasets.{phases[1]}.name: {name} is that of datasets.{phases[0]} too: give it another"
    ]
    sets[phases[1]]["name"] = "another"
    assert not list(find_problems(opt))
    sets[phases[1]]["name"] = name
    stock = {**opt, "model_type": "SRModel"}
    assert not [problem for problem in find_problems(stock) if problem.place[-1] == "name"]


@pytest.mark.parametrize(
    "place",
    [("datasets",), ("network_g",), ("logger",), ("train", "total_iter"), ("train", "optim_g"), ("train", "scheduler")],
    ids=dotted,
)
def test_a_missing_key_is_named(place):
    opt = copy.deepcopy(BASE)
    del block_at(opt, place[:-1])[place[-1]]
    named = [str(problem) for problem in find_problems(opt)]
    assert any(line.startswith(f"{dotted(place)}: is missing") for line in named), named


@pytest.mark.parametrize("base", [BASE, STOCK], ids=["ours", "stock"])
@pytest.mark.parametrize(("key", "written"), [(5, "5"), (1.5, "1.5"), (True, "true"), (None, "null")])
@pytest.mark.parametrize("block", [(), ("datasets",), ("datasets", "train"), ("val",), ("val", "metrics")], ids=dotted)
def test_a_key_that_is_no_text_is_named(base, key, written, block):
    opt = copy.deepcopy(base)
    block_at(opt, block)[key] = {"type": "calculate_psnr"}
    named = [str(problem) for problem in find_problems(opt)]
    assert f"{dotted((*block, written))}: is a key that YAML does not read as text: quote or remove it" in named, named


def test_swapped_phases_are_named():
    opt = copy.deepcopy(BASE)
    opt["datasets"] = {"train": opt["datasets"]["val"], "val": opt["datasets"]["train"]}
    named = [str(problem) for problem in find_problems(opt)]
    for key in ("gt_size", "batch_size_per_gpu"):
        assert any(line.startswith(f"datasets.train.{key}: is missing") for line in named), named


def test_a_size_beyond_all_memory_is_no_error_of_the_check():
    """The data decides whether there are pictures as large."""
    assert problems_with(BASE, ("datasets", "train", "gt_size"), 10**9) == []


def test_switches_of_stock_data_sets_may_be_0_and_1():
    opt = copy.deepcopy(STOCK)
    opt["datasets"]["train"].update(use_hflip=1, use_rot=0, pin_memory=1, num_prefetch_queue=0)
    assert not list(find_problems(opt))


def broken_file(folder):
    text = (OPTIONS / "macr_gopro.yml").read_text()
    for right, wrong in {
        "  print_freq: 200": "  print_frq: 200",
        "  ema_decay: 0": "  ema_decay: 1e-4",
        "manual_seed: 0": "manual_seed: 0\nmanual_seed: 1",
    }.items():
        assert re.search(f"^{right}", text, re.MULTILINE), right
        text = re.sub(f"^{right}", wrong, text, count=1, flags=re.MULTILINE)
    path = folder / "broken.yml"
    path.write_text(text)
    return path, text.splitlines()


def line_of(lines, start):
    return max(number for number, line in enumerate(lines, 1) if line.startswith(start))


def test_all_mistakes_of_a_file_are_named_at_once_with_their_lines(tmp_path):
    path, lines = broken_file(tmp_path)
    with pytest.raises(InputErrors) as caught:
        check_option_file(yaml.safe_load(path.read_text()), path)
    assert f"{path}:{line_of(lines, 'manual_seed')}:1: manual_seed: is there twice" in str(caught.value)
    for start, key in (("  print_frq", "logger.print_frq"), ("  ema_decay", "train.ema_decay")):
        assert f"{path}:{line_of(lines, start)}:3: {key}: " in str(caught.value)


@pytest.mark.parametrize("base", [BASE, STOCK], ids=["ours", "stock"])
def test_every_key_that_basicsr_indexes_is_named_with_all_other_mistakes(tmp_path, base):
    opt = copy.deepcopy(base)
    for key in ("name", "model_type", "num_gpu", "path"):
        del opt[key]
    opt["datasets"]["train"]["type"] = opt["network_g"]["type"] = "Absent"
    opt["manual_seed"] = "many"
    path = tmp_path / "broken.yml"
    path.write_text(yaml.safe_dump(opt))
    with pytest.raises(InputErrors) as caught:
        check_option_file(opt, path)
    named = str(caught.value)
    for key in ("name", "num_gpu", "path", "model_type", "manual_seed", "datasets.train.type", "network_g.type"):
        assert re.search(rf"broken\.yml:\d+:\d+: {re.escape(key)}: ", named), named


@pytest.mark.parametrize("base", [BASE, STOCK], ids=["ours", "stock"])
@pytest.mark.parametrize("key", ["name", "num_gpu", "path", "datasets", "model_type"])
def test_an_empty_key_that_basicsr_indexes_is_named_once(base, key, tmp_path):
    opt = copy.deepcopy(base)
    opt[key] = None
    path = tmp_path / "broken.yml"
    path.write_text(yaml.safe_dump(opt))
    with pytest.raises(InputErrors) as caught:
        check_option_file(opt, path)
    assert len([line for line in str(caught.value).splitlines() if f": {key}: " in line]) == 1


def test_pictures_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = OPTIONS / "macr_gopro.yml"
    with pytest.raises(InputErrors, match=r"datasets\.val\.dataroot_gt: datasets/GoPro/test_sharp.lmdb does not exist"):
        check_option_file(BASE, path)


def test_a_forced_value_is_named_as_such(tmp_path):
    opt = copy.deepcopy(BASE)
    opt["train"]["ema_decay"] = 3
    with pytest.raises(InputErrors, match=r"--force_yml: train\.ema_decay: is 3"):
        check_option_file(opt, OPTIONS / "macr_gopro.yml", ["train.ema_decay"])


@pytest.mark.parametrize("module", ["basicsr.train", "macr_plugin.train"])
def test_the_commands_end_with_status_2_and_leave_nothing(tmp_path, module):
    path, _ = broken_file(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", module, "-opt", path.name], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if "broken.yml:" in line]) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["broken.yml"]
