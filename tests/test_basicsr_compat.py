"""Every mend: the fault is there without it, gone with it, and nothing is touched where the fault is absent."""

import argparse
import importlib
import os
import random
import site
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import basicsr
import basicsr.data
import basicsr.test
import basicsr.train
import cv2
import lmdb
import numpy as np
import pytest
import torch
import yaml
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util, misc, options
from basicsr.utils.file_client import FileClient
from torch.utils.data import DataLoader, Dataset

from macr_plugin import basicsr_compat
from macr_plugin.errors import InputError


@pytest.fixture(autouse=True)
def restored_basicsr(monkeypatch):
    """Undo whatever a mend changes in BasicSR's modules."""
    monkeypatch.setenv(basicsr_compat.TRAINING_PROCESS_VARIABLE, "")
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "basicsr"]
    before = [(module, dict(vars(module))) for module in modules]
    model_to_device, backends = BaseModel.model_to_device, dict(FileClient._backends)
    yield
    for module, attributes in before:
        vars(module).update(attributes)
    BaseModel.model_to_device = model_to_device
    FileClient._backends = backends


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Write options, set the command line and call BasicSR's parser on them."""
    monkeypatch.chdir(tmp_path)

    def parse(changes=None, arguments=(), root=None, is_train=True):
        opt = {
            "name": "run",
            "model_type": "SRModel",
            "num_gpu": "auto",
            "manual_seed": 0,
            "datasets": {"train": {"name": "a", "type": "PairedImageDataset", "num_worker_per_gpu": 1}},
            "path": {"pretrain_network_g": None},
            "logger": {"print_freq": 1},
        }
        for key, value in (changes or {}).items():
            if isinstance(value, dict):
                opt[key].update(value)
            else:
                opt[key] = value
        path = tmp_path / "options.yml"
        path.write_text(yaml.safe_dump(opt))
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path), *arguments])
        return options.parse_options(str(root or tmp_path), is_train)[0]

    return parse


def pretend_gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)


def mend_options():
    basicsr_compat.mend_options(lambda opt: None)


# --- the torchvision alias -------------------------------------------------------------------------------------------


def test_functional_tensor_is_an_alias():
    module = importlib.import_module("torchvision.transforms.functional_tensor")
    picture = torch.rand(3, 4, 5)
    from torchvision.transforms.functional import rgb_to_grayscale

    assert torch.equal(module.rgb_to_grayscale(picture), rgb_to_grayscale(picture))


def test_alias_never_hides_a_real_module(monkeypatch):
    name = basicsr_compat.FunctionalTensorFinder.module_name
    monkeypatch.delitem(sys.modules, name, raising=False)
    real = types.ModuleType(name)

    class Real:
        @staticmethod
        def find_spec(fullname, path=None, target=None):
            return importlib.machinery.ModuleSpec(fullname, Real) if fullname == name else None

        @staticmethod
        def create_module(spec):
            return real

        @staticmethod
        def exec_module(module):
            pass

    basicsr_compat.alias_functional_tensor()
    monkeypatch.setattr(sys, "meta_path", [Real, *sys.meta_path])
    assert importlib.import_module(name) is real


def test_alias_is_installed_once():
    basicsr_compat.alias_functional_tensor()
    basicsr_compat.alias_functional_tensor()
    assert sum(isinstance(finder, basicsr_compat.FunctionalTensorFinder) for finder in sys.meta_path) == 1


# --- which program runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "arguments", "name"),
    [
        (["python", "-m", "basicsr.train", "-opt", "x.yml"], ["-m", "-opt", "x.yml"], "basicsr.train"),
        (["python", "-u", "-W", "ignore", "-m", "basicsr.test", "-opt", "x"], ["-m", "-opt", "x"], "basicsr.test"),
        (["python", "-um", "macr_plugin.train"], ["-m"], "macr_plugin.train"),
    ],
)
def test_module_that_runpy_is_about_to_run(monkeypatch, original, arguments, name):
    monkeypatch.setattr(sys, "orig_argv", original)
    monkeypatch.setattr(sys, "argv", arguments)
    assert basicsr_compat.main_module_name() == name
    assert basicsr_compat.is_training_program()


def test_pytest_is_no_training_program():
    assert not basicsr_compat.is_training_program()
    assert not hasattr(options.parse_options, "__wrapped__")


def test_script_of_a_checkout(tmp_path, monkeypatch):
    script = tmp_path / "basicsr" / "train.py"
    (tmp_path / "basicsr" / "models").mkdir(parents=True)
    script.touch()
    assert not basicsr_compat.is_basicsr_script(script), "a train.py in a folder that only shares the name"
    (tmp_path / "basicsr" / "models" / "base_model.py").touch()
    assert basicsr_compat.is_basicsr_script(script)
    assert not basicsr_compat.is_basicsr_script(script.with_name("inference.py"))


def test_worker_of_a_training_program(monkeypatch):
    monkeypatch.setenv(basicsr_compat.TRAINING_PROCESS_VARIABLE, str(os.getppid()))
    assert not basicsr_compat.is_training_worker(), "some program that the training started"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "spawn", "--multiprocessing-fork"])
    assert basicsr_compat.is_training_worker()
    monkeypatch.setenv(basicsr_compat.TRAINING_PROCESS_VARIABLE, "0")
    assert not basicsr_compat.is_training_worker(), "a worker of another program"


# --- options ---------------------------------------------------------------------------------------------------------


def test_auto_means_one_device(run, monkeypatch):
    pretend_gpus(monkeypatch, 8)
    assert run()["num_gpu"] == 8
    mend_options()
    assert run()["num_gpu"] == 1
    assert run({"num_gpu": 4})["num_gpu"] == 4, "an explicit number is the user's choice"
    assert run({"num_gpu": 4}, ["--force_yml", "num_gpu=auto"])["num_gpu"] == 1


def test_auto_without_a_gpu_is_the_cpu(run, monkeypatch):
    pretend_gpus(monkeypatch, 0)
    mend_options()
    assert run()["num_gpu"] == 0


def test_missing_gpu_is_refused(run, monkeypatch):
    pretend_gpus(monkeypatch, 0)
    run({"num_gpu": 1})
    mend_options()
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
def test_prefetch_falls_back(run, monkeypatch, capsys, train, kept):
    pretend_gpus(monkeypatch, 0)
    mend_options()
    mode = run({"datasets": {"train": train}})["datasets"]["train"]["prefetch_mode"]
    assert mode == (train["prefetch_mode"] if kept else None)
    assert ("is ignored" in capsys.readouterr().err) is not kept


def test_cuda_prefetch_stays_on_a_gpu(run, monkeypatch):
    pretend_gpus(monkeypatch, 1)
    mend_options()
    assert run({"datasets": {"train": {"prefetch_mode": "cuda"}}})["datasets"]["train"]["prefetch_mode"] == "cuda"


def test_output_leaves_site_packages(run, tmp_path):
    packages = site.getsitepackages()[0]
    assert run(root=packages)["path"]["experiments_root"].startswith(packages)
    mend_options()
    basicsr_compat.mend_output_root()
    opt = run(root=packages)
    assert Path(opt["path"]["experiments_root"]) == tmp_path / "experiments" / "run"
    assert Path(run(root=packages, is_train=False)["path"]["results_root"]) == tmp_path / "results" / "run"
    # What the script does next.
    opt["root_path"] = packages
    misc.make_exp_dirs(opt)
    assert Path(opt["root_path"]) == tmp_path


def test_output_of_a_checkout_stays_there(run, tmp_path):
    mend_options()
    basicsr_compat.mend_output_root()
    checkout = tmp_path / "BasicSR"
    opt = run(root=checkout)
    opt["root_path"] = str(checkout)
    misc.make_exp_dirs(opt)
    assert opt["root_path"] == str(checkout)
    assert (checkout / "experiments" / "run" / "models").is_dir()


def test_auto_resume_looks_where_the_run_writes(run, tmp_path, monkeypatch):
    pretend_gpus(monkeypatch, 1)
    states = tmp_path / "elsewhere" / "experiments" / "run" / "training_states"
    states.mkdir(parents=True)
    for iteration in (5, 20, 100):
        (states / f"{iteration}.state").touch()
    (states / "unfinished.state").touch()
    arguments = {"arguments": ["--auto_resume"], "root": tmp_path / "elsewhere"}
    assert basicsr.train.load_resume_state(run(**arguments)) is None, "BasicSR looks below the current directory"
    mend_options()
    assert run(**arguments)["path"]["resume_state"] == str(states / "100.state")


def test_auto_resume_without_a_state_starts_anew(run, capsys):
    mend_options()
    opt = run(arguments=["--auto_resume"])
    assert not opt["path"].get("resume_state")
    assert "starting anew" in capsys.readouterr().out


def test_basicsr_script_cannot_resume_on_a_cpu(run, monkeypatch):
    pretend_gpus(monkeypatch, 0)
    mend_options()
    assert run({"path": {"resume_state": "a.state"}})["path"]["resume_state"] == "a.state"
    monkeypatch.setattr(basicsr_compat, "is_basicsr_program", lambda: True)
    with pytest.raises(InputError, match=r"python -m macr_plugin.train -opt .*options.yml --auto_resume"):
        run({"path": {"resume_state": "a.state"}})
    # A BasicSR whose script resumes on a CPU is left alone.
    monkeypatch.setattr(basicsr.train, "load_resume_state", lambda opt: None)
    run({"path": {"resume_state": "a.state"}})


def test_options_are_checked_before_anything_is_built(run):
    def refuse(opt):
        raise InputError(f"{opt['name']} refused")

    basicsr_compat.mend_options(refuse)
    with pytest.raises(InputError, match="run refused"):
        run()


@pytest.mark.parametrize("key", basicsr_compat.REQUIRED_KEYS)
def test_missing_key_is_named(run, key):
    mend_options()
    with pytest.raises(InputError, match=rf"options.yml lacks the key {key}"):
        run({key: None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not plain YAML"),
        ("- a\n- b\n", "has no keys"),
        ("", "has no keys"),
        ("name: !!python/object/apply:os.mkdir [made_by_yaml]\n", "is not plain YAML"),
    ],
)
def test_unusable_option_file(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.yml").write_text(text)
    with pytest.raises(InputError, match=rf"bad.yml {message}"):
        basicsr_compat.read_options(Path("bad.yml"))
    assert not Path("made_by_yaml").exists()


def test_absent_option_file():
    with pytest.raises(InputError, match=r"absent.yml: No such file"):
        basicsr_compat.read_options(Path("absent.yml"))
    with pytest.raises(InputError, match="-opt"):
        basicsr_compat.option_path_from_arguments(["--auto_resume"])


def test_resuming_from_the_run_s_own_option_file(tmp_path):
    import shutil

    copy = tmp_path / "own.yml"
    copy.write_text("name: own\n")
    with pytest.raises(shutil.SameFileError):
        options.copy_opt_file(str(copy), str(tmp_path))
    basicsr_compat.mend_option_copy()
    options.copy_opt_file(str(copy), str(tmp_path))
    assert copy.read_text() == "name: own\n"
    other = tmp_path / "other" / "own.yml"
    other.parent.mkdir()
    other.write_text("name: other\n")
    options.copy_opt_file(str(other), str(tmp_path))
    assert "name: other" in copy.read_text()


# --- torch.distributed on a CPU --------------------------------------------------------------------------------------


@pytest.fixture
def single_process(monkeypatch):
    """The environment that torchrun gives to the only process, without the change of start method."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(dist_util.mp, "set_start_method", lambda method: None)
    pretend_gpus(monkeypatch, 0)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_gloo_connects_cpu_processes(single_process):
    with pytest.raises(ZeroDivisionError):
        options.init_dist("pytorch")
    basicsr_compat.mend_distributed_on_cpu()
    with pytest.raises(InputError, match="torchrun"):
        mended_slurm_without_gpu()
    options.init_dist("pytorch")
    assert torch.distributed.get_backend() == "gloo"
    model = types.SimpleNamespace(opt={"dist": True, "num_gpu": 0}, device=torch.device("cpu"))
    net = BaseModel.model_to_device(model, torch.nn.Conv2d(3, 3, 1))
    assert isinstance(net, torch.nn.parallel.DistributedDataParallel)


def mended_slurm_without_gpu():
    os.environ.update({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NODELIST": "localhost"})
    try:
        options.init_dist("slurm")
    finally:
        for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"):
            del os.environ[name]


def test_single_process_model_is_not_wrapped():
    basicsr_compat.mend_distributed_on_cpu()
    net = torch.nn.Conv2d(3, 3, 1)
    model = types.SimpleNamespace(opt={"dist": False, "num_gpu": 0}, device=torch.device("cpu"))
    assert BaseModel.model_to_device(model, net) is net


# --- resume ----------------------------------------------------------------------------------------------------------


def resume_options(tmp_path, state):
    return {"auto_resume": False, "network_g": {}, "path": {"resume_state": str(state), "models": str(tmp_path)}}


def test_resume_on_a_cpu(tmp_path, monkeypatch):
    pretend_gpus(monkeypatch, 0)
    torch.save({"epoch": 2, "iter": 7, "optimizers": [{"state": {0: torch.ones(3)}}]}, tmp_path / "7.state")
    opt = resume_options(tmp_path, tmp_path / "7.state")
    with pytest.raises((RuntimeError, AssertionError)):
        basicsr.train.load_resume_state(opt)
    basicsr_compat.mend_resume()
    state = basicsr.train.load_resume_state(opt)
    assert (state["epoch"], state["iter"]) == (2, 7)
    assert torch.equal(state["optimizers"][0]["state"][0], torch.ones(3))
    assert opt["path"]["pretrain_network_g"] == str(tmp_path / "net_g_7.pth")


def test_nothing_to_resume():
    assert basicsr_compat.load_resume_state({"path": {"resume_state": None}}) is None


def test_damaged_and_missing_states(tmp_path):
    torch.save({"epoch": 2, "iter": 7, "optimizers": [torch.ones(1000)]}, tmp_path / "7.state")
    whole = (tmp_path / "7.state").read_bytes()
    for length in (0, 100, len(whole) // 2):
        (tmp_path / "8.state").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"8.state is damaged"):
            basicsr_compat.load_resume_state(resume_options(tmp_path, tmp_path / "8.state"))
    with pytest.raises(InputError, match=r"9.state: No such file"):
        basicsr_compat.load_resume_state(resume_options(tmp_path, tmp_path / "9.state"))


def test_a_mended_basicsr_keeps_its_resume(monkeypatch):
    def resume_anywhere(opt):
        return None

    monkeypatch.setattr(basicsr.train, "load_resume_state", resume_anywhere)
    basicsr_compat.mend_resume()
    assert basicsr.train.load_resume_state is resume_anywhere


# --- worker seeds ----------------------------------------------------------------------------------------------------


class Draws(Dataset):
    """What a worker's generators draw."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.random()], dtype=torch.float64)


def epochs_of_draws(num_epochs):
    opt = {"phase": "train", "batch_size_per_gpu": 4, "num_worker_per_gpu": 1}
    torch.manual_seed(0)
    loader = basicsr.data.build_dataloader(Draws(), opt, seed=0)
    return [next(iter(loader)) for _ in range(num_epochs)]


def test_every_epoch_draws_anew():
    first, second = epochs_of_draws(2)
    assert torch.equal(first, second), "BasicSR repeats the draws of the first epoch"
    basicsr_compat.mend_worker_seeds()
    first, second = epochs_of_draws(2)
    assert not torch.isclose(first, second).any()
    assert torch.equal(first, epochs_of_draws(1)[0]), "and the manual seed still decides"


def test_a_mended_worker_seed_is_left_alone():
    def seed_from_torch(worker_id, num_workers, rank, seed):
        random.seed(torch.initial_seed())

    basicsr.data.worker_init_fn = seed_from_torch
    basicsr_compat.mend_worker_seeds()
    assert basicsr.data.worker_init_fn is seed_from_torch


def test_looking_for_the_fault_draws_nothing():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.random(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert basicsr_compat.repeats_seeds(basicsr.data.worker_init_fn)
    assert not basicsr_compat.repeats_seeds(basicsr_compat.seed_worker)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected


# --- sampler ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ranks", "ratio"), [(1, 1), (1, 5), (3, 1), (2, 4)])
def test_sampler_keeps_the_order_and_numbers_the_draws(ranks, ratio):
    dataset = range(7)
    stock = basicsr.train.EnlargedSampler
    basicsr_compat.mend_sampler()
    mended = basicsr.train.EnlargedSampler
    assert issubclass(mended, stock)
    for epoch in (0, 3):
        draws = []
        for rank in range(ranks):
            samplers = [sampler(dataset, ranks, rank, ratio) for sampler in (stock, mended)]
            for sampler in samplers:
                sampler.set_epoch(epoch)
            expected, indices = (list(sampler) for sampler in samplers)
            assert indices == expected
            assert {index.epoch for index in indices} == {epoch}
            assert [index.draw % 7 for index in indices] == indices
            draws += [index.draw for index in indices]
        assert sorted(draws) == list(range(len(draws))), "no draw comes twice in an epoch"


class Indices(Dataset):
    """What a dataset is asked for, in whichever process."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([index, index.epoch, index.draw])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_draws_reach_kept_workers(num_workers):
    basicsr_compat.mend_sampler()
    sampler = basicsr.train.EnlargedSampler(Indices(), 1, 0, 2)
    loader = DataLoader(
        Indices(), sampler=sampler, batch_size=2, num_workers=num_workers, persistent_workers=bool(num_workers)
    )
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        expected = [[index, epoch, index.draw] for index in sampler]
        assert torch.cat(list(loader)).tolist() == expected


def test_stock_dataset_takes_the_mended_indices(tmp_path):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    Path(tmp_path, "a.png").write_bytes(cv2.imencode(".png", np.full((8, 8, 3), 9, np.uint8))[1].tobytes())
    folders = {"dataroot_gt": str(tmp_path), "dataroot_lq": str(tmp_path)}
    augmentation = {"gt_size": 4, "use_hflip": True, "use_rot": True}
    dataset = PairedImageDataset(
        {"phase": "train", "scale": 1, "io_backend": {"type": "disk"}, **folders, **augmentation}
    )
    basicsr_compat.mend_sampler()
    opt = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": 1}
    sampler = basicsr.train.EnlargedSampler(dataset, 1, 0, 4)
    batches = list(basicsr.data.build_dataloader(dataset, opt, sampler=sampler, seed=0))
    assert [batch["gt"].shape for batch in batches] == [(2, 3, 4, 4)] * 2


def test_training_set_gets_the_seed_of_the_run(run):
    assert "manual_seed" not in run()["datasets"]["train"]
    mend_options()
    assert run({"manual_seed": 12})["datasets"]["train"]["manual_seed"] == 12
    drawn = run({"manual_seed": None})
    assert drawn["datasets"]["train"]["manual_seed"] == drawn["manual_seed"] is not None


# --- LMDB ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "a.lmdb"
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"scene/1", b"one")
    return str(path)


def open_client(path):
    return FileClient("lmdb", db_paths=[path, path + "/."], client_keys=["lq", "gt"])


class Values(Dataset):
    """Reads a value in a data loading worker."""

    def __init__(self, path):
        self.path, self.client = path, None

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.client is None:
            self.client = open_client(self.path)
        return self.client.get("scene/1", "gt")


def test_several_values_in_one_transaction(database):
    environments, options = basicsr_compat.lmdb_environments(), {"readonly": True, "lock": False}
    assert environments.count(database, **options) == 1
    with environments.values(database, ["scene/1", "scene/2"], **options) as (first, second):
        assert bytes(first) == b"one"
        assert second is None
    with pytest.raises(RuntimeError), environments.values(database, ["scene/1"], **options):
        raise RuntimeError
    assert environments.get(database, "scene/1", **options) == b"one", "not locked"


@pytest.mark.skipif(not basicsr_compat.refuses_second_environment(), reason="this lmdb opens an environment twice")
def test_one_lmdb_serves_every_client_and_worker(database):
    with pytest.raises(lmdb.Error, match="already open"):
        open_client(database)
    basicsr_compat.mend_lmdb_environments()
    first, second = open_client(database), open_client(database)
    loader = DataLoader(Values(database), num_workers=2)
    for _ in range(3):
        assert first.get("scene/1", "lq") == second.get("scene/1", "gt") == b"one"
        # Workers fork while this process has the environment open.
        assert list(loader) == [[b"one"], [b"one"]]
    assert first.get("scene/2", "lq") is None


def test_an_lmdb_that_opens_twice_needs_no_mend(monkeypatch):
    monkeypatch.setattr(basicsr_compat, "refuses_second_environment", lambda: False)
    backend = FileClient._backends["lmdb"]
    basicsr_compat.mend_lmdb_environments()
    assert FileClient._backends["lmdb"] is backend


# --- all together ----------------------------------------------------------------------------------------------------


def test_effective_batch_is_logged(caplog):
    import logging

    logger = basicsr.utils.get_root_logger()
    logger.propagate = True
    logger.setLevel(logging.INFO)
    basicsr_compat.log_effective_batch()
    opt = {"phase": "train", "batch_size_per_gpu": 3, "num_worker_per_gpu": 0}
    basicsr.data.build_dataloader(Draws(), opt, num_gpu=1)
    assert "Effective batch: 3 per process x 1 process(es) = 3" in caplog.text


def test_mending_reaches_the_script_and_happens_once():
    stock = options.parse_options
    basicsr_compat.mend_training_program(lambda opt: None)
    mended = options.parse_options
    assert mended.__wrapped__ is stock
    assert basicsr.train.parse_options is basicsr.test.parse_options is mended
    assert os.environ[basicsr_compat.TRAINING_PROCESS_VARIABLE] == str(os.getpid())
    basicsr_compat.mend_training_program(lambda opt: None)
    assert options.parse_options is mended


def test_parsed_arguments_are_passed_on(run):
    mend_options()
    run()
    opt, args = options.parse_options(".", True)
    assert isinstance(args, argparse.Namespace)
    assert opt["is_train"] is True


class OnTheDevice(torch.Tensor):
    """A tensor that plays one of a GPU and notes who was said to use it."""

    is_cuda = True

    def record_stream(self, stream):
        self.users = [*getattr(self, "users", []), stream]


def test_prefetched_batches_stay_until_the_step_that_uses_them_has_ended(monkeypatch):
    from basicsr.data import prefetch_dataloader

    basicsr_compat.mend_cuda_prefetcher()
    mended = prefetch_dataloader.CUDAPrefetcher
    basicsr_compat.mend_cuda_prefetcher()
    assert prefetch_dataloader.CUDAPrefetcher is mended, "a second call does nothing"
    step_stream, order = MagicMock(), []
    step_stream.wait_stream = lambda stream: order.append("wait")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: step_stream)
    prefetcher = object.__new__(mended)
    prefetcher.stream, prefetcher.batch = MagicMock(), {"lq": torch.zeros(1).as_subclass(OnTheDevice), "key": "a"}
    batch = prefetcher.batch
    monkeypatch.setattr(mended, "preload", lambda self: order.append("next copy"))
    assert prefetcher.next() is batch
    assert batch["lq"].users == [step_stream]
    assert order == ["wait", "next copy"]
    prefetcher.batch = None
    assert prefetcher.next() is None
