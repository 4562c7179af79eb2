"""Weights as the usual projects publish them, and files that are none."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.errors import InputError
from macr_plugin.weights.checkpoint import load_weights, read_checkpoint

OPTIONS = {"type": "MACR", "num_feat": 4, "num_blocks": 1, "branch_channels": 2}


def macr(seed=0, **options):
    torch.manual_seed(seed)
    return MACR(**{"num_feat": 4, "num_blocks": 1, "branch_channels": 2, **options})


WEIGHTS = macr(1).state_dict()
OTHER = macr(2).state_dict()


def prefixed(prefix, state=WEIGHTS):
    return {prefix + name: value for name, value in state.items()}


LAYOUTS = {
    "plain": WEIGHTS,
    "BasicSR": {"params": WEIGHTS},
    "BasicSR, average first": {"params": OTHER, "params_ema": WEIGHTS},
    "NAFNet and Restormer": {"params": prefixed("module.")},
    "MPRNet": {"epoch": 3, "state_dict": prefixed("module."), "optimizer": {"state": {}, "param_groups": []}},
    "MIMO-UNet": {"model": WEIGHTS},
    "MIMO-UNet while training": {"model": WEIGHTS, "optimizer": {"state": {}}, "scheduler": {}, "epoch": 3},
    "DeblurGAN-v2": {"model": prefixed("module.")},
    "Lightning": {"epoch": 1, "state_dict": {**prefixed("model."), "loss.weight": torch.ones(1)}, "callbacks": {}},
    "part of a module": {"state_dict": {**prefixed("net_g."), **prefixed("net_d.", {"a.b": torch.ones(1)})}},
    "two parts, average first": {"state_dict": {**prefixed("generator.", OTHER), **prefixed("generator_ema.")}},
    "compiled": {"params": prefixed("_orig_mod.")},
    "compiled and parallel": prefixed("module._orig_mod."),
    "nested": {"state_dict": {"params_ema": prefixed("network.")}},
    "any one name": {"iteration": 7, "my_weights": WEIGHTS},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_in_circulation(tmp_path, layout):
    torch.save(LAYOUTS[layout], tmp_path / "w.pth")
    network = macr()
    load_weights(network, tmp_path / "w.pth")
    assert all(torch.equal(value, WEIGHTS[name]) for name, value in network.state_dict().items())


def test_a_network_that_wraps_a_published_one(tmp_path):
    wrapper = nn.Module()
    wrapper.network = macr()
    for content in (WEIGHTS, prefixed("network."), {"params": prefixed("module.")}):
        torch.save(content, tmp_path / "w.pth")
        nn.init.zeros_(wrapper.network.conv1.weight)
        load_weights(wrapper, tmp_path / "w.pth")
        assert torch.equal(wrapper.network.conv1.weight, WEIGHTS["conv1.weight"])


def test_safetensors_with_their_record(tmp_path):
    save_file(prefixed("module."), tmp_path / "w.safetensors", metadata={"network_g": json.dumps(OPTIONS)})
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert checkpoint.network == OPTIONS
    load_weights(macr(), tmp_path / "w.safetensors")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def write_evil(path):
    torch.save({"params": WEIGHTS, "x": Evil(path.with_name("executed"))}, path)


def write_cut(path):
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-1000])


UNUSABLE = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "pointer"),
    "picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "are damaged or hold more"),
    "cut": (write_cut, "are damaged or hold more"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "missing": (lambda path: None, "No such file"),
    "code": (write_evil, "are damaged or hold more"),
    "list": (lambda path: torch.save([1], path), "hold no state dict"),
    "no weights": (lambda path: torch.save({"iter": 1}, path), "hold no state dict"),
    "nothing": (lambda path: torch.save({"params": {}}, path), "hold no state dict"),
    "two networks": (lambda path: torch.save({"a": WEIGHTS, "b": OTHER}, path), "several networks: choose one of a, b"),
    "another network": (lambda path: torch.save({"a.b": torch.ones(1)}, path), "missing in the file, first .*; 1 unk"),
    "another width": (lambda path: torch.save(macr(num_feat=8).state_dict(), path), "in the file and .* in the netw"),
}


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_files_get_one_line(tmp_path, kind, name):
    write, message = UNUSABLE[kind]
    write(tmp_path / name)
    with pytest.raises(
        InputError, match=rf"weights .*{name}.*{message}" if name != "w.safetensors" else name
    ) as caught:
        load_weights(macr(), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_chosen_entry(tmp_path):
    torch.save({"params": OTHER, "params_ema": WEIGHTS}, tmp_path / "w.pth")
    network = macr()
    load_weights(network, tmp_path / "w.pth", "params")
    assert torch.equal(network.conv1.weight, OTHER["conv1.weight"])
    with pytest.raises(InputError, match="have no nothing: choose one of params, params_ema"):
        load_weights(network, tmp_path / "w.pth", "nothing")
