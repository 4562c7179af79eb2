"""DeepDeblur and its discriminator against the authors' own code, the paper's figures and the size contract."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from overfitting import gain_after_overfitting
from reference_weights import uniform, with_reference_weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from macr_plugin.archs import DeepDeblur, DeepDeblurDiscriminator
from macr_plugin.archs.deepdeblur_arch import MID_GREY
from macr_plugin.archs.padding import pad_to_multiple
from macr_plugin.archs.pyramid import image_pyramid
from macr_plugin.errors import InputError

SMALL = {"num_feat": 4, "num_blocks": 1}
#: See test_agreement_with_the_authors_code.
RECORDED = np.load(Path(__file__).parent / "data" / "deepdeblur.npz")


@torch.no_grad()
def test_agreement_with_the_authors_code():
    """Full width, every scale: github.com/SeungjunNah/DeepDeblur-PyTorch at commit 26047f7, src/model/MSResNet.py.

    Their ``MSResNet`` (n_resblocks 19, n_feats 64, kernel_size 5, n_scales 3, rgb_range 1) was run in float64 with
    torch 2.14 on the pyramid of this picture (``interpolate``, bilinear, antialiased) and with these weights: both
    state dicts hold their tensors in the same order.
    """
    net = with_reference_weights(DeepDeblur())
    pyramid = net(uniform(1000, (1, 3, 24, 32), 0, 1), all_scales=True)
    for scale, picture in enumerate(pyramid):
        np.testing.assert_allclose(picture.numpy(), RECORDED[f"scale{scale}"], rtol=0, atol=1e-10)


@torch.no_grad()
def test_agreement_with_the_authors_discriminator():
    """As above, src/model/discriminator.py, on two pictures of 256x256; weights times the root of 3."""
    net = with_reference_weights(DeepDeblurDiscriminator())
    for parameter in net.parameters():
        parameter.mul_(3**0.5)
    verdict = net(uniform(1001, (2, 3, 256, 256), 0, 1))
    np.testing.assert_allclose(verdict.numpy(), RECORDED["verdict"], rtol=0, atol=1e-10)


def test_parameter_count():
    """Counted from the authors' PyTorch code: sum of ``numel`` over MSResNet's and Discriminator's parameters."""
    assert sum(parameter.numel() for parameter in DeepDeblur().parameters()) == 11_721_321
    assert sum(parameter.numel() for parameter in DeepDeblurDiscriminator().parameters()) == 10_725_216


def test_forty_convolutions_a_scale():
    """The paper's count, besides the up-convolutions."""
    for network in DeepDeblur().networks:
        layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert len(layers) == 40
        assert {layer.kernel_size for layer in layers} == {(5, 5)}
        assert {layer.out_channels for layer in layers[:-1]} == {64}


def test_multiply_accumulates_at_256():
    net = DeepDeblur().to("meta")
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 256, 256, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(335.9, abs=0.05)
    by_mmengine = get_model_complexity_info(DeepDeblur(**SMALL), (3, 256, 256), show_table=False, show_arch=False)
    small = DeepDeblur(**SMALL).to("meta")
    with FlopCounterMode(display=False) as counter:
        small(torch.empty(1, 3, 256, 256, device="meta"))
    assert by_mmengine["flops"] == counter.get_total_flops() / 2


@pytest.mark.parametrize("size", [(4, 4), (4, 61), (17, 31), (33, 50), (64, 64), (18, 130)])
@torch.no_grad()
def test_every_size_is_kept(size):
    pyramid = DeepDeblur(**SMALL)(torch.rand(2, 3, *size), all_scales=True)
    expected = [(-(-size[0] // 2**scale), -(-size[1] // 2**scale)) for scale in range(3)]
    assert [tuple(picture.shape) for picture in pyramid] == [(2, 3, *scale_size) for scale_size in expected]


@pytest.mark.parametrize("num_scales", [1, 2, 3])
@torch.no_grad()
def test_minimum_size(num_scales):
    net = DeepDeblur(**SMALL, num_scales=num_scales)
    minimum = net.minimum_size
    assert minimum == 2 ** (num_scales - 1)
    assert net(torch.rand(1, 3, minimum, minimum)).shape == (1, 3, minimum, minimum)
    if minimum > 1:
        with pytest.raises(InputError, match=rf"at least {minimum}x{minimum} px and got {minimum - 1}x99"):
            net(torch.rand(1, 3, minimum - 1, 99))


@torch.no_grad()
def test_an_odd_size_is_a_padded_picture_cropped():
    torch.manual_seed(0)
    net = DeepDeblur(**SMALL)
    picture = torch.rand(1, 3, 13, 18)
    padded = net(pad_to_multiple(picture, 4), all_scales=True)
    for ours, theirs in zip(net(picture, all_scales=True), padded, strict=True):
        assert torch.equal(ours, theirs[..., : ours.shape[-2], : ours.shape[-1]])
    assert torch.equal(net(picture), net(picture, all_scales=True)[0])


@torch.no_grad()
def test_each_scale_has_weights_of_its_own_and_sees_the_coarser_result():
    torch.manual_seed(0)
    net = DeepDeblur(**SMALL)
    seen = {}
    for scale, network in enumerate(net.networks):
        network[0].register_forward_pre_hook(lambda layer, inputs, scale=scale: seen.update({scale: inputs[0]}))
    picture = torch.rand(1, 3, 16, 24)
    pyramid = net(picture, all_scales=True)
    centred = [blurred - MID_GREY for blurred in image_pyramid(picture, 3)]
    assert list(seen) == [2, 1, 0], "from the coarsest to the finest"
    torch.testing.assert_close(seen[2], centred[2])
    for scale in (1, 0):
        enlarged = net.upsample[scale](pyramid[scale + 1] - MID_GREY)
        torch.testing.assert_close(seen[scale], torch.cat([centred[scale], enlarged], dim=1))


@torch.no_grad()
def test_zero_weights_give_grey():
    """No skip leads round a network."""
    net = DeepDeblur(**SMALL)
    for parameter in net.parameters():
        parameter.zero_()
    assert torch.equal(net(torch.rand(1, 3, 9, 12)), torch.full((1, 3, 9, 12), MID_GREY))


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    net = DeepDeblur(num_feat=8, num_blocks=2)
    # The finest picture alone: the coarser networks learn through the up-convolutions too.
    net(torch.rand(1, 3, 32, 32)).square().mean().backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []
    judge = DeepDeblurDiscriminator(num_feat=8)
    judge(torch.rand(1, 3, 64, 64)).sum().backward()
    assert [name for name, parameter in judge.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (96, 96), (256, 256), (320, 300)])
@torch.no_grad()
def test_the_discriminator_takes_any_crop(size):
    assert DeepDeblurDiscriminator(num_feat=4)(torch.rand(2, 3, *size)).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("options", [{"num_scales": 0}, {"num_blocks": 0}])
def test_wrong_options_are_named(options):
    with pytest.raises(InputError, match=f"network_g.{next(iter(options))} of DeepDeblur is at least 1, not 0"):
        DeepDeblur(**options)


def test_one_crop_can_be_restored():
    torch.manual_seed(0)
    assert gain_after_overfitting(DeepDeblur(num_feat=16, num_blocks=2), iterations=150, learning_rate=2e-3) > 1
