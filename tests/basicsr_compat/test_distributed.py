"""Processes on a CPU."""

import os
import types

import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util, options

from macr_plugin.basicsr_compat import distributed
from macr_plugin.errors import InputError


@pytest.fixture
def single_process(monkeypatch, pretend_gpus):
    """The environment that torchrun gives to the only process, without the change of start method."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(dist_util.mp, "set_start_method", lambda method: None)
    pretend_gpus(0)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_gloo_connects_cpu_processes(single_process):
    with pytest.raises(ZeroDivisionError):
        options.init_dist("pytorch")
    distributed.patch_distributed_on_cpu()
    with pytest.raises(InputError, match="torchrun"):
        patched_slurm_without_gpu()
    options.init_dist("pytorch")
    assert torch.distributed.get_backend() == "gloo"
    model = types.SimpleNamespace(opt={"dist": True, "num_gpu": 0}, device=torch.device("cpu"))
    net = BaseModel.model_to_device(model, torch.nn.Conv2d(3, 3, 1))
    assert isinstance(net, torch.nn.parallel.DistributedDataParallel)


def patched_slurm_without_gpu():
    os.environ.update({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NODELIST": "localhost"})
    try:
        options.init_dist("slurm")
    finally:
        for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"):
            del os.environ[name]


def test_single_process_model_is_not_wrapped():
    distributed.patch_distributed_on_cpu()
    net = torch.nn.Conv2d(3, 3, 1)
    model = types.SimpleNamespace(opt={"dist": False, "num_gpu": 0}, device=torch.device("cpu"))
    assert BaseModel.model_to_device(model, net) is net
