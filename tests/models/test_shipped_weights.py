"""A training that starts from shipped weights by their name."""

from pathlib import Path

import pytest
import torch
from basicsr.models import build_model

from macr_plugin.errors import InputError
from macr_plugin.weights.checkpoint import read_checkpoint
from macr_plugin.weights.shipped import read_card


@pytest.fixture
def start(tmp_path):
    """Build a model of the plugin's class that starts from given weights."""

    def start(weights, is_train=True, **changes):
        opt = {
            "name": "run",
            "model_type": "MultiScaleDeblurModel",
            "num_gpu": 0,
            "dist": False,
            "rank": 0,
            "world_size": 1,
            "is_train": is_train,
            "network_g": {**read_card("macr-small")["network_g"], **changes},
            "path": {
                **{name: str(tmp_path) for name in ("models", "training_states", "visualization")},
                "pretrain_network_g": weights,
                "strict_load_g": True,
            },
            "train": {
                "ema_decay": 0.9,
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": []},
                "total_iter": 1,
                "pixel_opt": {"type": "L1Loss"},
            },
            "val": {},
        }
        return build_model(opt)

    return start


def test_a_name_stands_for_the_weights(start):
    model = start("macr-small")
    expected = read_checkpoint("macr-small").state
    for net in (model.net_g, model.net_g_ema):
        weights = dict(net.named_parameters())
        assert weights.keys() == expected.keys() - {"_extra_state"}
        assert all(torch.equal(value, expected[key].float()) for key, value in weights.items())


def test_a_safetensors_file_is_read_as_well(start):
    file = read_checkpoint("macr-small").source
    assert Path(file).suffix == ".safetensors"
    weight = read_checkpoint(file).state["conv1.weight"].float()
    assert torch.equal(start(file, is_train=False).net_g.conv1.weight, weight)


def test_another_network_is_refused_in_one_line(start):
    with pytest.raises(InputError, match=r"macr_small.safetensors do not fit MACR: .*: check its options"):
        start("macr-small", num_blocks=5)


def test_a_name_that_nothing_has_is_refused_in_one_line(start):
    with pytest.raises(InputError, match=r"weights macr-smal: No such file: give .* or macr-small"):
        start("macr-smal")
