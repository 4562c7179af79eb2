"""What BasicSR's own models save and resume from."""

import random

import pytest
import torch
from basicsr.models.base_model import BaseModel
from torch import nn

from macr_plugin.basicsr_compat.saving import patch_saving
from macr_plugin.errors import InputError
from macr_plugin.models import checkpoints


@pytest.fixture
def model(tmp_path, restored_basicsr):
    patch_saving(checkpoints)
    path = {"models": str(tmp_path), "training_states": str(tmp_path)}
    model = BaseModel({"num_gpu": 0, "is_train": True, "path": path, "dist": False, "rank": 0, "world_size": 1})
    model.net_g = nn.Linear(2, 2)
    model.optimizers = [torch.optim.Adam(model.net_g.parameters())]
    return model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_validated(model, tmp_path, value):
    model.save_network(model.net_g, "net_g", -1)
    good = (tmp_path / "net_g_latest.pth").read_bytes()
    with torch.no_grad():
        model.net_g.weight[0, 0] = value
    with pytest.raises(InputError, match=r"net_g_latest.pth: the weight weight is not finite"):
        model.save_network([model.net_g, model.net_g], "net_g", -1, ["params", "params_ema"])
    assert (tmp_path / "net_g_latest.pth").read_bytes() == good
    with pytest.raises(InputError, match=r"validation at 3: the weight weight is not finite"):
        model.validation(None, 3, None)


def test_a_file_that_cannot_be_written_ends_the_training(model, tmp_path):
    (tmp_path / "net_g_1.pth").mkdir()
    with pytest.raises(InputError, match=r"net_g_1.pth could not be written"):
        model.save_network(model.net_g, "net_g", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["net_g_1.pth"]


def test_a_resume_goes_on_with_random_numbers_and_best_figures(model, tmp_path):
    import numpy as np

    model.best_metric_results = {"val": {"psnr": {"better": "higher", "val": np.float64(30), "iter": 3}}}
    model.save_training_state(0, 3)
    expected = random.random(), np.random.random(), torch.rand(2).tolist()
    state = torch.load(tmp_path / "3.state", weights_only=True)
    resumed = BaseModel(model.opt)
    resumed.optimizers = [torch.optim.Adam(model.net_g.parameters())]
    resumed.resume_training(state)
    assert (random.random(), np.random.random(), torch.rand(2).tolist()) == expected
    assert resumed.best_metric_results == model.best_metric_results
