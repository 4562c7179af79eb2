"""Every option file: parsed by BasicSR, built, and run once on a few small pictures."""

import gc
import re
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.options import parse_options

from macr_plugin.options.check import check_options

REPOSITORY = Path(__file__).parents[2]


def option_files():
    """Files that name a model class, by whether they train; files of another kind have none."""
    found = {True: [], False: []}
    for path in sorted((REPOSITORY / "options").rglob("*.yml")):
        opt = yaml.safe_load(path.read_text())
        if "model_type" in opt:
            found["train" in opt].append(path)
    return found


TRAINING, TESTING = (option_files()[trains] for trains in (True, False))


def file_name(path):
    return path.relative_to(REPOSITORY / "options").as_posix()


def small(dataset, split):
    """Point a dataset to the demo's LMDBs and shrink it."""
    if dataset["type"] == "DeblurPairDataset":
        dataset.pop("dataroot", None)
        dataset["dataroot_lq"] = f"datasets/demo/{split}_blur.lmdb"
    dataset["dataroot_gt"] = f"datasets/demo/{split}_sharp.lmdb"
    dataset["io_backend"] = {"type": "lmdb"}
    if split == "train":
        dataset.update(batch_size_per_gpu=1, num_worker_per_gpu=0, persistent_workers=False)
        if "gt_size" in dataset:
            dataset["gt_size"] = 64
    dataset.update(cache=False)
    return dataset


@pytest.fixture
def parse(working_folder, monkeypatch):
    """Parse a shrunk copy of an option file as BasicSR's command does."""

    def parse(path, is_train):
        opt = yaml.safe_load(path.read_text())
        opt["num_gpu"] = 0
        for phase, dataset in opt["datasets"].items():
            small(dataset, "train" if phase == "train" else "test")
        if is_train:
            opt["train"]["ema_decay"] = 0.5
            # Compiling takes minutes and is another test's business.
            (opt["train"].get("acceleration") or {}).pop("compile", None)
        else:
            opt["path"]["pretrain_network_g"] = None
        Path(path.name).write_text(yaml.safe_dump(opt, sort_keys=False))
        monkeypatch.setattr("sys.argv", ["train.py", "-opt", path.name])
        check_options(opt)
        return parse_options(str(working_folder), is_train)[0]

    return parse


@pytest.fixture(autouse=True)
def freed_models():
    """Models are circles of references: full-size ones must not wait for Python to look for them."""
    yield
    gc.collect()


def weights_of(net):
    return torch.cat([parameter.detach().flatten().clone() for parameter in net.parameters()])


def restore_part_of_a_frame(model, dataset_opt):
    """Restore the corner of the first frame, of a size that nothing divides."""
    sample = build_dataset(dataset_opt)[0]
    model.feed_data({"lq": sample["lq"][None, :, :37, :53], "gt": sample["gt"][None, :, :37, :53]})
    model.test()
    assert model.output.shape == (1, 3, 37, 53)
    assert model.output.isfinite().all()


@pytest.mark.parametrize("path", TRAINING, ids=file_name)
def test_a_training_file_trains(parse, path):
    opt = parse(path, is_train=True)
    batch = next(iter(torch.utils.data.DataLoader(build_dataset(opt["datasets"]["train"]), batch_size=1)))
    model = build_model(opt)
    before, averaged_before = weights_of(model.net_g), weights_of(model.net_g_ema)
    model.update_learning_rate(1, opt["train"].get("warmup_iter", -1))
    model.feed_data(batch)
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert log["l_pix"] > 0
    assert all(torch.isfinite(torch.tensor(value)) for value in log.values())
    assert all(parameter.grad is not None for parameter in model.net_g.parameters())
    assert not torch.equal(weights_of(model.net_g), before)
    assert not torch.equal(weights_of(model.net_g_ema), averaged_before)
    restore_part_of_a_frame(model, opt["datasets"]["val"])


@pytest.mark.parametrize("path", TESTING, ids=file_name)
def test_a_test_file_restores(parse, path):
    opt = parse(path, is_train=False)
    restore_part_of_a_frame(build_model(opt), next(iter(opt["datasets"].values())))


@pytest.mark.parametrize("path", TRAINING + TESTING, ids=file_name)
def test_a_file_says_what_its_keys_mean_and_how_it_is_run(path):
    lines = path.read_text().splitlines()
    assert [line for line in lines if line.strip() and not line.endswith(":") and "#" not in line] == []
    comments = "\n".join(line for line in lines if line.startswith("#"))
    command = "train" if path in TRAINING else "test"
    assert f"python -m basicsr.{command} -opt options/{file_name(path)}" in comments


def test_every_file_has_a_run_folder_of_its_own():
    names = [yaml.safe_load(path.read_text())["name"] for path in TRAINING + TESTING]
    assert len(set(names)) == len(names)


def differences(one, other, prefix=""):
    """Dotted keys in which two blocks differ."""
    keys = set()
    for key in one.keys() | other.keys():
        ours, theirs = (block.get(key, "absent") for block in (one, other))
        if isinstance(ours, dict) and isinstance(theirs, dict):
            keys |= differences(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            keys.add(f"{prefix}{key}")
    return keys


@pytest.mark.parametrize(
    ("plain", "variant", "expected"),
    [
        (
            "deepdeblur_gopro",
            "deepdeblur_gan_gopro",
            {
                *("name", "model_type", "network_d", "path.pretrain_network_d", "path.strict_load_d"),
                *("train.gan_opt", "train.optim_d", "train.net_d_iters", "train.net_d_init_iters"),
            },
        ),
        ("srn_gopro", "srn_lstm_gopro", {"name", "network_g.lstm", "train.grad_clip_norm"}),
    ],
)
def test_variants_of_a_baseline_differ_in_nothing_else(plain, variant, expected):
    folder = REPOSITORY / "options" / "baselines"
    plain, variant = (yaml.safe_load((folder / f"{name}.yml").read_text()) for name in (plain, variant))
    assert differences(plain, variant) == expected


def test_the_steps_of_srn_follow_its_curve():
    """As its file says: within 13 % of the paper's polynomial up to iteration 260,000 of 262,000."""
    text = (REPOSITORY / "options" / "baselines" / "srn_gopro.yml").read_text()
    train = yaml.safe_load(text)["train"]
    scheduler, total = train["scheduler"], train["total_iter"]
    assert re.search(r"1e-6 \+ 9\.9e-5 \(1 - iteration / 262000\)\^0\.3", text)
    for iteration in range(0, 260_000, 100):
        curve = 1e-6 + 9.9e-5 * (1 - iteration / total) ** 0.3
        steps = sum(milestone <= iteration for milestone in scheduler["milestones"])
        assert train["optim_g"]["lr"] * scheduler["gamma"] ** steps == pytest.approx(curve, rel=0.13)
