"""Every network that the plugin registers keeps the contract that inference, benchmark and models rely on."""

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from snapshots import NETWORKS

from macr_plugin.archs.contract import DeblurringNetwork, PyramidNetwork, minimum_size_of, returns_pyramid
from macr_plugin.errors import InputError

#: Judges pictures instead of restoring them.
NOT_FOR_DEBLURRING = "DeepDeblurDiscriminator"
DEBLURRING = {name: network for name, network in NETWORKS.items() if network[0] != NOT_FOR_DEBLURRING}


@pytest.fixture(params=DEBLURRING)
def network(request):
    if request.param == "spandrel":
        pytest.importorskip("spandrel")
    registered, options = DEBLURRING[request.param]
    return ARCH_REGISTRY.get(registered)(**options).eval().requires_grad_(False)


def test_it_states_its_sizes_and_keeps_that_of_a_picture(network):
    assert isinstance(network, DeblurringNetwork)
    assert minimum_size_of(network) == network.minimum_size
    assert network.multiple_of >= 1
    smallest = max(network.minimum_size, 8)
    for height, width in ((smallest, smallest + 1), (smallest + 3, smallest)):
        assert network(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)


def test_it_refuses_a_smaller_picture(network):
    if network.minimum_size == 1:
        pytest.skip("it takes every size")
    too_small = network.minimum_size - 1
    with pytest.raises(InputError, match=f"at least {network.minimum_size}x{network.minimum_size} px"):
        network(torch.rand(1, 3, too_small, network.minimum_size))


def test_a_pyramid_comes_finest_first_and_is_asked_for(network):
    if not returns_pyramid(network):
        pytest.skip("it has one scale")
    assert isinstance(network, PyramidNetwork)
    picture = torch.rand(1, 3, network.minimum_size + 5, network.minimum_size + 2)
    pyramid = network(picture, all_scales=True)
    assert len(pyramid) == network.num_scales
    assert pyramid[0].shape == picture.shape
    heights = [one.shape[-2] for one in pyramid]
    assert heights == sorted(heights, reverse=True)
    torch.testing.assert_close(pyramid[0], network(picture))


def test_every_network_of_the_plugin_is_among_them():
    ours = {name for name, network in ARCH_REGISTRY if network.__module__.startswith("macr_plugin.")}
    assert {registered for registered, _ in DEBLURRING.values()} == ours - {NOT_FOR_DEBLURRING}


def test_networks_of_others_may_say_nothing():
    network = torch.nn.Conv2d(3, 3, 1)
    assert minimum_size_of(network) is None
    assert not returns_pyramid(network)
