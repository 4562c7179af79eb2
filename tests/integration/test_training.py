"""Training, validating and testing through BasicSR's own loop, and how it ends on bad input."""

import re
import shutil
import site
from pathlib import Path

import cv2
import pytest
import torch
import yaml

TEST_OPTIONS = Path(__file__).parents[2] / "options" / "test_macr_gopro.yml"


def site_packages():
    """Every file that an environment holds, but for compiled modules."""
    files = {path for folder in site.getsitepackages() for path in Path(folder).rglob("*")}
    return {path for path in files if "__pycache__" not in path.parts}


def test_stock_command_trains_and_tests(working_folder, tiny_options, run_python):
    """``python -m basicsr.train`` and ``.test`` as a user types them, training and validating on one LMDB."""
    train_lmdbs = {
        f"datasets__val__{name}": f"datasets/demo/train_{kind}.lmdb"
        for name, kind in (("dataroot_lq", "blur"), ("dataroot_gt", "sharp"))
    }
    before = site_packages()
    status, output = run_python("-m", "basicsr.train", "-opt", tiny_options(**train_lmdbs))
    assert status == 0, output
    assert site_packages() == before
    assert sorted(path.name for path in working_folder.iterdir()) == [
        "datasets",
        "experiments",
        "tb_logger",
        "tiny.yml",
    ]
    assert "Effective batch: 2 per process x 1 process(es) = 2" in output
    validations = re.findall(r"# psnr: (\S+)\tblurred input: (\S+)\tgain: (\S+)\tBest: \S+ @ (\d+) iter", output)
    assert len(validations) == 3, "at 3, 6 and 9"
    assert all(
        float(psnr) - float(blurred) == pytest.approx(float(gain), abs=2e-4) for psnr, blurred, gain, _ in validations
    )

    run = Path("experiments/tiny")
    assert sorted(path.name for path in (run / "models").iterdir()) == [
        *("net_g_3.pth", "net_g_6.pth", "net_g_9.pth", "net_g_best.pth", "net_g_latest.pth")
    ]
    assert sorted(path.name for path in (run / "training_states").iterdir()) == ["3.state", "6.state", "9.state"]
    pictures = sorted(path.relative_to(run / "visualization").as_posix() for path in run.rglob("*_9.png"))
    assert pictures == [
        "astronaut/000001/000001_9.png",
        "demo-test_comparison_9.png",
        "motorcycle/000003/000003_9.png",
        "motorcycle/000012/000012_9.png",
    ]
    assert cv2.imread(str(run / "visualization" / "astronaut/000001/000001_9.png")).shape == (352, 352, 3)

    opt = yaml.safe_load(TEST_OPTIONS.read_text())
    trained = yaml.safe_load(Path("tiny.yml").read_text())
    opt["network_g"] = trained["network_g"]
    opt["datasets"] = {"test_1": trained["datasets"]["val"]}
    opt["path"]["pretrain_network_g"] = str(run / "models" / "net_g_latest.pth")
    opt["path"]["param_key_g"] = "params_ema"
    Path("test.yml").write_text(yaml.safe_dump(opt))
    status, output = run_python("-m", "basicsr.test", "-opt", "test.yml")
    assert status == 0, output
    psnr = re.search(r"# psnr: (\S+)", output)
    assert psnr.group(1) == validations[-1][0], "the test measures what the last validation measured"
    assert len(list(Path("results/test_macr_gopro/visualization/demo-test").rglob("*/*_test_macr_gopro.png"))) == 3


def test_stock_model_and_dataset_train_macr(working_folder, tiny_options, run_python):
    """SRModel and PairedImageDataset of BasicSR itself, with our network, loss and LMDBs."""
    options = tiny_options(
        model_type="SRModel", datasets__train__type="PairedImageDataset", datasets__val__type="PairedImageDataset"
    )
    opt = yaml.safe_load(Path(options).read_text())
    del opt["datasets"]["val"]["num_frames"], opt["train"]["scale_weights"], opt["train"]["grad_clip_norm"]
    del opt["datasets"]["train"]["uint8"], opt["datasets"]["train"]["cache"]
    opt["train"]["total_iter"] = 3
    Path(options).write_text(yaml.safe_dump(opt))
    status, output = run_python("-m", "basicsr.train", "-opt", options)
    assert status == 0, output
    assert "Model [SRModel] is created" in output
    assert "# psnr:" in output
    weights = torch.load("experiments/tiny/models/net_g_latest.pth", weights_only=True)
    assert set(weights) == {"params", "params_ema"}


def test_gopro_folders_without_an_lmdb(working_folder, tiny_options, run_python):
    """The launcher, on the PNG files as they lie in the GoPro layout."""
    changes = {}
    for phase, split in (("train", "train"), ("val", "test")):
        changes[f"datasets__{phase}__dataroot"] = f"datasets/demo/{split}"
        changes[f"datasets__{phase}__io_backend"] = {"type": "disk"}
        changes[f"datasets__{phase}__dataroot_lq"] = None
        changes[f"datasets__{phase}__dataroot_gt"] = None
    status, output = run_python("-m", "macr_plugin.train", "-opt", tiny_options(train__total_iter=3, **changes))
    assert status == 0, output
    assert "# psnr:" in output
    assert Path("experiments/tiny/models/net_g_3.pth").is_file()


def without_meta_info(folder):
    shutil.copytree("datasets/demo/train_blur.lmdb", folder / "incomplete.lmdb")
    (folder / "incomplete.lmdb" / "meta_info.txt").unlink()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network_g__num_feats": 8},
            "network_g.num_feats: unknown option of MACR 'num_feats': did you mean num_feat?",
        ),
        (
            {"datasets__train__dataroot_lq": "incomplete.lmdb"},
            "incomplete.lmdb/meta_info.txt is missing: recreate incomplete.lmdb",
        ),
        pytest.param(
            {"num_gpu": 1},
            "num_gpu: 1 in tiny.yml asks for a GPU and torch sees none: set num_gpu: auto",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"datasets__train__gt_size": 999}, "smaller than the crop of 999: lower datasets.train.gt_size"),
        ({"datasets__train__gt_size": 40}, "a picture of 10x10 px is too small for SSIM"),
    ],
)
def test_bad_input_is_one_line(working_folder, tiny_options, run_python, changes, message):
    without_meta_info(working_folder)
    status, output = run_python("-W", "ignore", "-m", "macr_plugin.train", "-opt", tiny_options(**changes))
    assert status == 2, output
    errors = [line for line in output.splitlines() if line.startswith("macr_plugin.train: error: ")]
    assert len(errors) == 1, output
    assert message in errors[0]
    assert "Traceback" not in output
    assert not list(working_folder.rglob("*.pth"))
    assert {path.name for path in working_folder.iterdir()} == {"datasets", "incomplete.lmdb", "tiny.yml"}
