"""SRN-DeblurNet against the authors' own code, closed forms and the size contract."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from overfitting import gain_after_overfitting
from reference_weights import uniform, with_reference_weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from macr_plugin.archs import SRNDeblurNet
from macr_plugin.archs.padding import pad_to_multiple
from macr_plugin.archs.pyramid import image_pyramid, resize
from macr_plugin.archs.srn_arch import ConvLSTM
from macr_plugin.errors import InputError

SMALL = {"num_feat": 4, "num_blocks": 1}


@pytest.mark.parametrize("lstm", [False, True])
@torch.no_grad()
def test_agreement_with_the_authors_code(lstm):
    """Full width, every scale: github.com/jiangsutx/SRN-Deblur at commit 2caaa85, models/model.py.

    Their ``generator`` was run in float32 with TensorFlow 2.15 and tf-slim 1.1 in the place of TensorFlow 1, on three
    channels with and without its recurrence, and given these weights: its variables come in the order of our state
    dict. Two things were changed. Their calls of ``resize_images`` went to TensorFlow's half-pixel bilinear resizing
    with antialiasing. And kernels, picture and result were turned by 180 degrees, since TensorFlow pads less before
    the first row and column than after the last.
    """
    recorded = np.load(Path(__file__).parent / "data" / "srn.npz")
    net = with_reference_weights(SRNDeblurNet(lstm=lstm))
    pyramid = net(uniform(1000, (1, 3, 32, 48), 0, 1), all_scales=True)
    for scale, picture in enumerate(pyramid):
        expected = recorded[f"{'lstm' if lstm else 'plain'}_scale{scale}"]
        np.testing.assert_allclose(picture.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("lstm", "parameters"), [(False, 6_881_251), (True, 8_061_411)])
def test_parameter_count(lstm, parameters):
    """As the variables of the authors' code add up, with three channels."""
    assert sum(parameter.numel() for parameter in SRNDeblurNet(lstm=lstm).parameters()) == parameters


def test_multiply_accumulates_at_256():
    net = SRNDeblurNet().to("meta")
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 256, 256, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(83.5, abs=0.05)
    by_mmengine = get_model_complexity_info(SRNDeblurNet(**SMALL), (3, 256, 256), show_table=False, show_arch=False)
    small = SRNDeblurNet(**SMALL).to("meta")
    with FlopCounterMode(display=False) as counter:
        small(torch.empty(1, 3, 256, 256, device="meta"))
    # It counts the resizing too.
    assert by_mmengine["flops"] == pytest.approx(counter.get_total_flops() / 2, rel=0.005)


@pytest.mark.parametrize("lstm", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (16, 61), (17, 31), (33, 50), (64, 64), (18, 130)])
@torch.no_grad()
def test_every_size_is_kept(size, lstm):
    pyramid = SRNDeblurNet(**SMALL, lstm=lstm)(torch.rand(2, 3, *size), all_scales=True)
    expected = [(-(-size[0] // 2**scale), -(-size[1] // 2**scale)) for scale in range(3)]
    assert [tuple(picture.shape) for picture in pyramid] == [(2, 3, *scale_size) for scale_size in expected]


@pytest.mark.parametrize("num_scales", [1, 2, 3])
@torch.no_grad()
def test_minimum_size(num_scales):
    net = SRNDeblurNet(**SMALL, num_scales=num_scales, lstm=True)
    minimum = net.minimum_size
    assert minimum == 4 * 2 ** (num_scales - 1)
    assert net(torch.rand(1, 3, minimum, minimum)).shape == (1, 3, minimum, minimum)
    with pytest.raises(InputError, match=rf"SRNDeblurNet needs .* {minimum}x{minimum} px and got {minimum - 1}x99"):
        net(torch.rand(1, 3, minimum - 1, 99))


@torch.no_grad()
def test_an_odd_size_is_a_padded_picture_cropped():
    torch.manual_seed(0)
    net = SRNDeblurNet(**SMALL, lstm=True)
    picture = torch.rand(1, 3, 21, 34)
    padded = net(pad_to_multiple(picture, 16), all_scales=True)
    for ours, theirs in zip(net(picture, all_scales=True), padded, strict=True):
        assert torch.equal(ours, theirs[..., : ours.shape[-2], : ours.shape[-1]])
    assert torch.equal(net(picture), net(picture, all_scales=True)[0])


@pytest.mark.parametrize("lstm", [False, True])
def test_weights_are_shared_over_the_scales(lstm):
    one, three = SRNDeblurNet(**SMALL, num_scales=1, lstm=lstm), SRNDeblurNet(**SMALL, lstm=lstm)
    assert {name: value.shape for name, value in one.state_dict().items()} == {
        name: value.shape for name, value in three.state_dict().items()
    }
    calls = []
    three.decoder1[-1].register_forward_hook(lambda layer, inputs, output: calls.append(tuple(output.shape[-2:])))
    three(torch.rand(1, 3, 64, 48))
    assert calls == [(16, 12), (32, 24), (64, 48)]


@torch.no_grad()
def test_coarse_to_fine_order_and_inputs():
    torch.manual_seed(0)
    net = SRNDeblurNet(**SMALL)
    seen = []
    net.encoder1[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    picture = torch.rand(1, 3, 64, 32)
    pyramid = net(picture, all_scales=True)
    blurred = image_pyramid(picture, 3)
    assert torch.equal(seen[0], torch.cat([blurred[2], blurred[2]], dim=1))
    assert torch.equal(seen[1], torch.cat([blurred[1], resize(pyramid[2], (32, 16))], dim=1))
    assert torch.equal(seen[2], torch.cat([blurred[0], resize(pyramid[1], (64, 32))], dim=1))


@torch.no_grad()
def test_the_recurrence_carries_its_state_enlarged():
    torch.manual_seed(0)
    net = SRNDeblurNet(**SMALL, lstm=True)
    steps = []
    net.lstm.register_forward_hook(lambda layer, inputs, output: steps.append((inputs[1], output)))
    net(torch.rand(1, 3, 64, 32))
    assert steps[0][0] is None
    for scale, size in ((1, (8, 4)), (2, (16, 8))):
        for state, before in zip(steps[scale][0], steps[scale - 1][1], strict=True):
            assert torch.equal(state, resize(before, size))


@torch.no_grad()
def test_lstm_equations_at_one_pixel():
    """With 1x1 pixels a 3x3 convolution is a matrix, and the cell is PyTorch's own LSTM cell.

    Its gates are ordered input, forget, candidate, output and know no extra forget bias.
    """
    torch.manual_seed(0)
    ours = ConvLSTM(5).double()
    theirs = nn.LSTMCell(5, 5).double()
    matrix, bias = ours.gates.weight[:, :, 1, 1], ours.gates.bias.clone()
    bias[10:15] += 1
    order = torch.cat([torch.arange(0, 5), torch.arange(10, 15), torch.arange(5, 10), torch.arange(15, 20)])
    theirs.weight_ih.copy_(matrix[order, :5])
    theirs.weight_hh.copy_(matrix[order, 5:])
    theirs.bias_ih.copy_(bias[order])
    theirs.bias_hh.zero_()
    x, hidden, cell = torch.randn(3, 2, 5, dtype=torch.float64)
    as_pictures = [value[..., None, None] for value in (x, hidden, cell)]
    for state, before in ((None, None), ((as_pictures[1], as_pictures[2]), (hidden, cell))):
        for one, other in zip(ours(as_pictures[0], state), theirs(x, before), strict=True):
            torch.testing.assert_close(one[..., 0, 0], other)


@pytest.mark.parametrize("lstm", [False, True])
def test_gradient_reaches_every_parameter(lstm):
    torch.manual_seed(0)
    net = SRNDeblurNet(num_feat=8, num_blocks=2, lstm=lstm)
    sum(picture.square().mean() for picture in net(torch.rand(1, 3, 32, 32), all_scales=True)).backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("detach_coarser", [False, True])
def test_the_gradient_stops_between_scales_where_asked(detach_coarser):
    torch.manual_seed(0)
    net = SRNDeblurNet(**SMALL, num_scales=2, detach_coarser=detach_coarser)
    coarse = []

    def keep(layer, inputs, output):
        output.retain_grad()
        coarse.append(output)

    net.decoder1[-1].register_forward_hook(keep)
    net(torch.rand(1, 3, 16, 16)).sum().backward()
    assert (coarse[0].grad is None) is detach_coarser


def test_initial_weights():
    """Glorot uniform but for the recurrence: normal of deviation 0.001, truncated at two."""
    torch.manual_seed(0)
    net = SRNDeblurNet(lstm=True)
    weight = net.encoder2[0].weight.detach()
    bound = (6 / (32 * 25 + 64 * 25)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    gates = net.lstm.gates.weight.detach()
    assert gates.abs().max() <= 2e-3
    # Standard deviation of the standard normal distribution truncated at two.
    assert gates.std() == pytest.approx(0.8796e-3, rel=0.01)
    assert all(not value.any() for name, value in net.named_parameters() if name.endswith("bias"))


def test_wrong_options_are_named():
    with pytest.raises(InputError, match=r"network_g.num_scales of SRNDeblurNet is at least 1, not 0"):
        SRNDeblurNet(num_scales=0)


@pytest.mark.parametrize("lstm", [False, True])
def test_one_crop_can_be_restored(lstm):
    torch.manual_seed(0)
    net = SRNDeblurNet(num_feat=8, num_blocks=1, lstm=lstm)
    assert gain_after_overfitting(net, iterations=300, learning_rate=3e-3, size=32) > 1
