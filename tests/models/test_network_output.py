"""The trial run that refuses networks of which a training could make nothing."""

import random

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from macr_plugin.errors import InputError

OUTPUTS = {
    "dictionary": lambda picture: {"restored": picture, "features": picture},
    "tuple with a number": lambda picture: (picture, 0.5),
    "tuple with features": lambda picture: (picture, picture.repeat(1, 4, 1, 1)),
    "tuple with a vector": lambda picture: (picture, picture.mean(dim=(2, 3))),
    "nested list": lambda picture: [picture, [picture]],
    "twice the size": lambda picture: nn.functional.interpolate(picture, scale_factor=2),
    "cut": lambda picture: picture[..., 1:-1, 1:-1],
    "one channel": lambda picture: picture[:, :1],
    "empty list": lambda picture: [],
    "nothing": lambda picture: None,
    "one picture": lambda picture: picture,
    "stages of one size": lambda picture: [picture, picture, picture],
    "pyramid, coarsest first": lambda picture: (picture[..., ::4, ::4], picture[..., ::2, ::2], picture),
}
SHAPES = {
    "dictionary": "a dictionary of restored, features",
    "tuple with a number": "a tuple of a tensor of shape (1, 3, 64, 64), an object of type float",
    "tuple with features": "a tuple of a tensor of shape (1, 3, 64, 64), a tensor of shape (1, 12, 64, 64)",
    "tuple with a vector": "a tuple of a tensor of shape (1, 3, 64, 64), a tensor of shape (1, 3)",
    "nested list": "a list of a tensor of shape (1, 3, 64, 64), a list of a tensor of shape (1, 3, 64, 64)",
    "twice the size": "a tensor of shape (1, 3, 128, 128)",
    "cut": "a tensor of shape (1, 3, 62, 62)",
    "one channel": "a tensor of shape (1, 1, 64, 64)",
    "empty list": "a list of nothing",
    "nothing": "an object of type NoneType",
}


class Returns(nn.Module):
    """A network with a buffer and random numbers that returns what it is told, and may want a size."""

    def __init__(self, output, multiple=1, only_in_training=False):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.output, self.multiple, self.only_in_training = output, multiple, only_in_training

    def forward(self, x):
        if x.shape[-1] % self.multiple:
            raise RuntimeError(f"not a multiple of {self.multiple}")
        restored = self.norm(self.layer(x)) + torch.rand(1) + random.random() + np.random.random()
        return restored if self.only_in_training and not self.training else OUTPUTS[self.output](restored)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "Returns", Returns)


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("output", SHAPES)
def test_anything_but_pictures_is_refused_before_the_first_step(build, output, is_train):
    with pytest.raises(InputError) as error:
        build({"type": "Returns", "output": output}, is_train=is_train)
    assert f"network_g Returns returns {SHAPES[output]} for a picture of shape (1, 3, 64, 64): " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("output", sorted(set(OUTPUTS) - set(SHAPES)))
def test_pictures_are_taken_and_counted(build, output):
    network = {"type": "Returns", "output": output}
    scales = 1 if output == "one picture" else 3
    build(network, scale_weights=[1] * scales)
    with pytest.raises(InputError, match=f"scale_weights has 2 weights and the network Returns returns {scales} "):
        build(network, scale_weights=[1, 1])


def test_scales_are_those_of_a_training(build):
    """Many networks return their pyramid in training mode alone."""
    build({"type": "Returns", "output": "stages of one size", "only_in_training": True}, scale_weights=[1, 1, 1])


def test_a_network_that_wants_another_size_is_left_to_its_training(build):
    build({"type": "Returns", "output": "dictionary", "multiple": 100}, scale_weights=[1, 1])


def test_a_training_does_not_notice_the_trial(build, monkeypatch):
    network = {"type": "Returns", "output": "one picture"}

    def start():
        random.seed(0)
        np.random.seed(0)
        model = build(network)
        return model.net_g, [torch.rand(1).item(), random.random(), np.random.random()]

    net, draws = start()
    monkeypatch.setattr("macr_plugin.models.multiscale_model.count_scales", lambda *args: None)
    untried, expected = start()
    assert draws == expected
    assert net.training
    for name, value in untried.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
