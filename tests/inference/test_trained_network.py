import json

import basicsr  # noqa: F401  registers the plugin
import pytest
import torch
import yaml
from safetensors.torch import save_file

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.errors import InputError
from macr_plugin.inference.trained_network import find_weights, load_network

OPTIONS = {"type": "MACR", "num_feat": 4, "num_blocks": 1, "branch_channels": 2}


def state(seed):
    torch.manual_seed(seed)
    return MACR(**{name: value for name, value in OPTIONS.items() if name != "type"}).state_dict()


@pytest.fixture
def run(tmp_path):
    """The folder of a training as BasicSR leaves it."""
    folder = tmp_path / "experiments/my_run"
    (folder / "models").mkdir(parents=True)
    for seed, name in enumerate(["9", "10000", "500"]):
        torch.save({"params": state(seed)}, folder / f"models/net_g_{name}.pth")
    (folder / "my_run.yml").write_text(yaml.safe_dump({"name": "my_run", "network_g": OPTIONS}))
    return folder


def loaded_seed(weights):
    network = load_network(weights)
    assert not network.training
    (seed,) = [seed for seed in range(6) if torch.equal(network.conv1.weight, state(seed)["conv1.weight"])]
    return seed


def test_a_run_gives_its_best_else_its_newest(run):
    assert loaded_seed(run) == loaded_seed(run / "models") == 1
    torch.save({"params": state(3)}, run / "models/net_g_latest.pth")
    assert loaded_seed(run) == 3
    torch.save({"params": state(4), "params_ema": state(5)}, run / "models/net_g_best.pth")
    assert loaded_seed(run) == 5
    assert loaded_seed(run / "models/net_g_9.pth") == 0


def test_options_from_the_file_itself_come_first(run, tmp_path):
    save_file(state(2), tmp_path / "mine.safetensors", metadata={"network_g": json.dumps(OPTIONS)})
    assert loaded_seed(tmp_path / "mine.safetensors") == 2
    torch.save({"params": state(2), "network_g": OPTIONS}, run / "models/net_g_best.pth")
    (run / "my_run.yml").write_text("network_g: {type: DeepDeblur}")
    assert loaded_seed(run) == 2


def test_an_option_file_of_the_same_name(tmp_path):
    torch.save({"params": state(2)}, tmp_path / "mine.pth")
    with pytest.raises(InputError, match=r"mine.pth do not record their network, and no option file .* copy it there"):
        load_network(tmp_path / "mine.pth")
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({"network_g": OPTIONS}))
    (tmp_path / "other.yml").write_text("network_g: {type: DeepDeblur}")
    assert loaded_seed(tmp_path / "mine.pth") == 2
    (tmp_path / "mine.yml").write_text("datasets: {}")
    with pytest.raises(InputError, match=r"mine.yml names no network"):
        load_network(tmp_path / "mine.pth")
    (tmp_path / "mine.yml").write_text("network_g: {type: Nowhere}")
    with pytest.raises(InputError, match="no network is registered as Nowhere"):
        load_network(tmp_path / "mine.pth")


def test_folders_without_weights(tmp_path):
    with pytest.raises(InputError, match=r"holds no net_g_\*.pth: give the folder of a training"):
        find_weights(tmp_path)
    with pytest.raises(InputError, match="--weights macr-huge: there is no such file or folder"):
        find_weights("macr-huge")


def test_a_path_from_within_the_folder(run, monkeypatch):
    monkeypatch.chdir(run / "models")
    assert loaded_seed("net_g_500.pth") == 2
