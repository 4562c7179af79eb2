"""Stock models of BasicSR that start from weights of other projects."""

from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import pytest
import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.basicsr_compat.pretrained import patch_load_network
from macr_plugin.errors import InputError
from macr_plugin.weights.pretrained import load_pretrained

SMALL_MACR = {"type": "MACR", "num_feat": 4, "num_blocks": 1, "branch_channels": 2}
STOCK_LOAD = BaseModel.load_network


def weights_of(seed):
    torch.manual_seed(seed)
    return MACR(num_feat=4, num_blocks=1, branch_channels=2).state_dict()


WEIGHTS, AVERAGE = weights_of(1), weights_of(2)


def start(file, ema_decay=0, model_type="SRModel", **path):
    """Build a model, BasicSR's own by default, from a file, as its training does."""
    opt = {
        **{"name": "run", "num_gpu": 0, "dist": False, "rank": 0, "world_size": 1, "is_train": True},
        "model_type": model_type,
        "network_g": dict(SMALL_MACR),
        "path": {"pretrain_network_g": str(file), **path},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": []},
            "pixel_opt": {"type": "L1Loss"},
            "ema_decay": ema_decay,
        },
        "val": {},
    }
    return build_model(opt)


def has(net, weights):
    return all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


#: What BasicSR itself takes: content of the file, options of ``path``, weights of the network and of its average.
STOCK = {
    "params": ({"params": WEIGHTS}, {}, WEIGHTS, WEIGHTS),
    "both": ({"params": WEIGHTS, "params_ema": AVERAGE}, {}, WEIGHTS, AVERAGE),
    "average asked for": ({"params": WEIGHTS, "params_ema": AVERAGE}, {"param_key_g": "params_ema"}, AVERAGE, AVERAGE),
    "average missing": ({"params": WEIGHTS}, {"param_key_g": "params_ema"}, WEIGHTS, WEIGHTS),
    "another key missing": ({"params": WEIGHTS, "params_ema": AVERAGE}, {"param_key_g": "x"}, WEIGHTS, AVERAGE),
    "parallel": ({"params": {f"module.{name}": value for name, value in WEIGHTS.items()}}, {}, WEIGHTS, WEIGHTS),
    "partly parallel": (
        {"params": {f"module.{name}" * ("1" in name) or name: value for name, value in WEIGHTS.items()}},
        *({}, WEIGHTS, WEIGHTS),
    ),
}


@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("kind", STOCK)
def test_what_basicsr_takes_is_taken_as_before(tmp_path, kind, patched):
    content, path, weights, average = STOCK[kind]
    torch.save(content, tmp_path / "w.pth")
    if patched:
        patch_load_network(load_pretrained)
    model = start(tmp_path / "w.pth", ema_decay=0.9, **path)
    assert has(model.net_g, weights)
    assert has(model.net_g_ema, average)


@pytest.mark.parametrize("patched", [False, True])
def test_loosely_loaded_weights(tmp_path, patched):
    """Another size, a missing and an unknown name; everything else is loaded."""
    first, _, *others = WEIGHTS
    content = {name: WEIGHTS[name] for name in others} | {first: torch.ones(1), "unknown": torch.ones(1)}
    torch.save({"params": content}, tmp_path / "w.pth")
    if patched:
        patch_load_network(load_pretrained)
    model = start(tmp_path / "w.pth", strict_load_g=False)
    state = model.net_g.state_dict()
    assert all(torch.equal(state[name], WEIGHTS[name]) for name in others)
    assert state[first].shape == WEIGHTS[first].shape
    with pytest.raises((InputError, RuntimeError)):
        start(tmp_path / "w.pth")


def test_a_batch_norm_of_an_older_torch_is_taken(tmp_path):
    """Torch itself fills in the count of batches, which files did not have before 0.4.1."""
    patch_load_network(load_pretrained)
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    state = {name: value + 1 for name, value in net.state_dict().items() if "num_batches" not in name}
    torch.save({"params": state}, tmp_path / "w.pth")
    torch.save({"params": WEIGHTS}, tmp_path / "g.pth")
    start(tmp_path / "g.pth").load_network(net, str(tmp_path / "w.pth"))
    assert torch.equal(net[0].weight, state["0.weight"])


@pytest.mark.parametrize("layout", ["plain", "state_dict", "Lightning", "safetensors"])
def test_files_of_other_projects_are_taken(tmp_path, layout):
    file = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pth")
    content = {
        "state_dict": {"state_dict": WEIGHTS, "epoch": 1},
        "Lightning": {"state_dict": {f"model.{name}": value for name, value in WEIGHTS.items()}},
    }.get(layout, WEIGHTS)
    (save_file if layout == "safetensors" else torch.save)(content, file)
    patch_load_network(load_pretrained)
    model = start(file, ema_decay=0.9)
    assert has(model.net_g, WEIGHTS)
    assert has(model.net_g_ema, WEIGHTS)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


UNUSABLE = {
    "code": (lambda path: torch.save({"params": WEIGHTS, "x": Evil(path.with_name("ran"))}, path), "more than tensors"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html>"), "web page"),
    "missing": (lambda path: None, "No such file"),
    "another network": (lambda path: torch.save({"params": {"a": torch.ones(1)}}, path), "do not fit MACR"),
    "no such key": (lambda path: torch.save(WEIGHTS, path), "have no mine: choose one of"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_files_are_one_line(tmp_path, kind, monkeypatch):
    # As a user sets it whose own files hold more than tensors; it must not open the door for every file.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    write, message = UNUSABLE[kind]
    write(tmp_path / "w.pth")
    patch_load_network(load_pretrained)
    with pytest.raises(InputError, match=rf"weights .*w.pth.*{message}") as caught:
        start(tmp_path / "w.pth", param_key_g="mine" if kind == "no such key" else "params")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_basicsr_alone_reads_the_checkpoints_of_the_plugin(tmp_path):
    """Without the patch, as with MACR_PLUGIN_AUTOLOAD=0: the record of the network does not disturb."""
    torch.save({"params": WEIGHTS}, tmp_path / "start.pth")
    model = start(tmp_path / "start.pth", ema_decay=0.9)
    folders = {name: str(tmp_path) for name in ("models", "training_states", "visualization")}
    plugin_model = start(tmp_path / "start.pth", 0.9, "MultiScaleDeblurModel", **folders)
    plugin_model.save(epoch=0, current_iter=1)
    file = tmp_path / "net_g_1.pth"
    assert torch.load(file, weights_only=True)["network_g"] == SMALL_MACR
    for key in ("params", "params_ema"):
        STOCK_LOAD(model, model.net_g, str(file), True, key)
        assert has(model.net_g, plugin_model.net_g.state_dict())
    assert Path(STOCK_LOAD.__code__.co_filename).name == "base_model.py"
