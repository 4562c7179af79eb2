"""What BasicSR's parser decides wrongly: there without the patch, right with it."""

import argparse
import site
from pathlib import Path

import pytest
from basicsr.utils import misc, options

from macr_plugin.basicsr_compat import parsing
from macr_plugin.errors import InputError


def test_auto_means_one_device(run, pretend_gpus, patch_options):
    pretend_gpus(8)
    assert run()["num_gpu"] == 8
    patch_options()
    assert run()["num_gpu"] == 1
    assert run({"num_gpu": 4})["num_gpu"] == 4, "an explicit number is the user's choice"
    assert run({"num_gpu": 4}, ["--force_yml", "num_gpu=auto"])["num_gpu"] == 1


def test_auto_without_a_gpu_is_the_cpu(run, pretend_gpus, patch_options):
    pretend_gpus(0)
    patch_options()
    assert run()["num_gpu"] == 0


def test_missing_gpu_is_refused(run, pretend_gpus, patch_options):
    pretend_gpus(0)
    run({"num_gpu": 1})
    patch_options()
    with pytest.raises(InputError, match=r"num_gpu: 1 in .*options.yml .* set num_gpu: auto"):
        run({"num_gpu": 1})


@pytest.mark.parametrize(
    ("train", "kept"),
    [
        ({"prefetch_mode": "cuda", "pin_memory": True}, False),
        ({"prefetch_mode": "cpu", "num_worker_per_gpu": 0}, False),
        ({"prefetch_mode": "cpu", "num_worker_per_gpu": 1, "persistent_workers": True}, False),
        ({"prefetch_mode": "cpu", "num_worker_per_gpu": 1}, True),
        ({"prefetch_mode": None}, True),
    ],
)
def test_prefetch_falls_back(run, capsys, train, kept, pretend_gpus, patch_options):
    pretend_gpus(0)
    patch_options()
    mode = run({"datasets": {"train": train}})["datasets"]["train"]["prefetch_mode"]
    assert mode == (train["prefetch_mode"] if kept else None)
    assert ("is ignored" in capsys.readouterr().err) is not kept


def test_cuda_prefetch_stays_on_a_gpu(run, pretend_gpus, patch_options):
    pretend_gpus(1)
    patch_options()
    assert run({"datasets": {"train": {"prefetch_mode": "cuda"}}})["datasets"]["train"]["prefetch_mode"] == "cuda"


def test_output_leaves_site_packages(run, tmp_path, patch_options):
    packages = site.getsitepackages()[0]
    assert run(root=packages)["path"]["experiments_root"].startswith(packages)
    patch_options()
    parsing.patch_output_root()
    opt = run(root=packages)
    assert Path(opt["path"]["experiments_root"]) == tmp_path / "experiments" / "run"
    assert Path(run(root=packages, is_train=False)["path"]["results_root"]) == tmp_path / "results" / "run"
    # What the script does next.
    opt["root_path"] = packages
    misc.make_exp_dirs(opt)
    assert Path(opt["root_path"]) == tmp_path


def test_output_of_a_checkout_stays_there(run, tmp_path, patch_options):
    patch_options()
    parsing.patch_output_root()
    checkout = tmp_path / "BasicSR"
    opt = run(root=checkout)
    opt["root_path"] = str(checkout)
    misc.make_exp_dirs(opt)
    assert opt["root_path"] == str(checkout)
    assert (checkout / "experiments" / "run" / "models").is_dir()


def test_options_are_checked_before_anything_is_built(run, patch_options):
    def refuse(opt, path, forced, is_train, may_resume):
        raise InputError(f"{opt['name']} refused")

    patch_options(refuse)
    with pytest.raises(InputError, match="run refused"):
        run()


def test_resuming_from_the_run_s_own_option_file(tmp_path):
    import shutil

    copy = tmp_path / "own.yml"
    copy.write_text("name: own\n")
    with pytest.raises(shutil.SameFileError):
        options.copy_opt_file(str(copy), str(tmp_path))
    parsing.patch_option_copy()
    options.copy_opt_file(str(copy), str(tmp_path))
    assert copy.read_text() == "name: own\n"
    other = tmp_path / "other" / "own.yml"
    other.parent.mkdir()
    other.write_text("name: other\n")
    options.copy_opt_file(str(other), str(tmp_path))
    assert "name: other" in copy.read_text()


def test_training_set_gets_the_seed_of_the_run(run, patch_options):
    assert "manual_seed" not in run()["datasets"]["train"]
    patch_options()
    assert run({"manual_seed": 12})["datasets"]["train"]["manual_seed"] == 12
    drawn = run({"manual_seed": None})
    assert drawn["datasets"]["train"]["manual_seed"] == drawn["manual_seed"] is not None


def test_parsed_arguments_are_passed_on(run, patch_options):
    patch_options()
    run()
    opt, args = options.parse_options(".", True)
    assert isinstance(args, argparse.Namespace)
    assert opt["is_train"] is True


def test_no_option_file():
    with pytest.raises(InputError, match="-opt"):
        parsing.option_path_from_arguments(["--auto_resume"])


@pytest.mark.parametrize(
    ("weights", "is_train", "warns"),
    [(None, False, True), ("", False, True), ("net.pth", False, False), (None, True, False)],
)
def test_a_test_without_weights_says_so(run, capsys, patch_options, weights, is_train, warns):
    patch_options()
    run({"network_g": {"type": "MACR"}, "path": {"pretrain_network_g": weights}}, is_train=is_train)
    said = [line for line in capsys.readouterr().err.splitlines() if "pretrain_network_g" in line]
    assert len(said) == warns
    assert not warns or "this test measures random weights: give a .pth file" in said[0]
