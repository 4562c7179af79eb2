"""The blocks of Table 6 against BasicSR's, their definitions written out, and their costs."""

import pytest
import torch
from basicsr.archs import arch_util, rrdbnet_arch
from cost import cost_of
from torch import nn

from macr_plugin.archs import ACRB, DenseConnectionBlock, ResidualBlock, ResidualDenseBlock
from macr_plugin.archs.blocks import concatenate

BLOCKS = [ResidualBlock, DenseConnectionBlock, ResidualDenseBlock, ACRB]


def dense_parameters(num_feat, growth_rate, num_layers):
    """Weights and biases of densely connected 3x3 convolutions and the 1x1 convolution that fuses them."""
    widths = [num_feat + layer * growth_rate for layer in range(num_layers + 1)]
    return sum((9 * width + 1) * growth_rate for width in widths[:-1]) + (widths[-1] + 1) * num_feat


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (ResidualBlock, 2 * (64 * 64 * 9 + 64)),
        (DenseConnectionBlock, dense_parameters(64, 16, 8)),
        (ResidualDenseBlock, dense_parameters(64, 64, 8)),
        (lambda: ResidualDenseBlock(growth_rate=32, num_layers=6), dense_parameters(64, 32, 6)),
    ],
    ids=["resblock", "dcb", "rdb", "rdb-of-the-smaller-rdn"],
)
def test_parameters_follow_the_definitions(build, parameters):
    assert sum(parameter.numel() for parameter in build().parameters()) == parameters


@pytest.mark.parametrize(
    ("block", "parameters", "ratio"),
    [
        (ResidualBlock, 73_856, 0.16),
        (DenseConnectionBlock, 150_720, 0.33),
        (ACRB, 459_200, 1),
        (ResidualDenseBlock, 1_364_544, 2.97),
    ],
)
def test_stated_costs(block, parameters, ratio):
    """The paper claims that the ACRB costs less than the three others; it costs less than one."""
    shape = (1, 64, 16, 16)
    counted, multiply_accumulates = cost_of(block, shape)
    assert counted == parameters
    assert multiply_accumulates / cost_of(ACRB, shape)[1] == pytest.approx(ratio, abs=0.005)


@torch.no_grad()
def test_residual_block_is_basicsrs():
    torch.manual_seed(0)
    block = ResidualBlock(num_feat=8)
    reference = arch_util.ResidualBlockNoBN(num_feat=8)
    reference.load_state_dict(block.state_dict())
    x = torch.randn(2, 8, 9, 7)
    torch.testing.assert_close(block(x), reference(x))


@torch.no_grad()
def test_residual_dense_block_is_basicsrs():
    """BasicSR's, with a plain ReLU; its last convolution is 3x3 and its residual is scaled by 0.2."""
    torch.manual_seed(0)
    block = ResidualDenseBlock(num_feat=8, growth_rate=4, num_layers=4)
    reference = rrdbnet_arch.ResidualDenseBlock(num_feat=8, num_grow_ch=4)
    reference.lrelu = nn.ReLU()
    layers = [reference.conv1, reference.conv2, reference.conv3, reference.conv4]
    for ours, theirs in zip(block.layers, layers, strict=True):
        theirs.load_state_dict(ours.state_dict())
    reference.conv5.weight.copy_(nn.functional.pad(block.fuse.weight, (1, 1, 1, 1)) / 0.2)
    reference.conv5.bias.copy_(block.fuse.bias / 0.2)
    x = torch.randn(2, 8, 9, 7)
    torch.testing.assert_close(block(x), reference(x))


@torch.no_grad()
def test_dense_connection_block_wiring():
    torch.manual_seed(0)
    block = DenseConnectionBlock(num_feat=8, num_layers=3)
    x = torch.randn(1, 8, 9, 7)
    y1 = torch.relu(block.layers[0](x))
    y2 = torch.relu(block.layers[1](torch.cat([x, y1], 1)))
    y3 = torch.relu(block.layers[2](torch.cat([x, y1, y2], 1)))
    assert y1.shape[1] == 2
    torch.testing.assert_close(block(x), block.fuse(torch.cat([x, y1, y2, y3], 1)))


@torch.no_grad()
def test_the_residual_alone_sets_the_dense_blocks_apart():
    torch.manual_seed(0)
    dense, residual_dense = DenseConnectionBlock(8, growth_rate=4), ResidualDenseBlock(8, growth_rate=4)
    residual_dense.load_state_dict(dense.state_dict())
    x = torch.randn(1, 8, 9, 7)
    torch.testing.assert_close(residual_dense(x), x + dense(x))


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_blocks_keep_size_and_input(block):
    x = torch.randn(2, 8, 13, 5)
    before = x.clone()
    assert block(8)(x).shape == x.shape
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("block", "passes_its_input"),
    [(ResidualBlock, True), (DenseConnectionBlock, False), (ResidualDenseBlock, True), (ACRB, True)],
)
@torch.no_grad()
def test_zero_weights_leave_the_skip(block, passes_its_input):
    net = block(8)
    for parameter in net.parameters():
        parameter.zero_()
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(net(x), x if passes_its_input else torch.zeros_like(x))


@pytest.mark.parametrize(
    ("block", "radius"), [(ResidualBlock, 2), (DenseConnectionBlock, 8), (ResidualDenseBlock, 8), (ACRB, 12)]
)
def test_receptive_field(block, radius):
    """Its 3x3 convolutions in a row reach a pixel each; dilations 2, 3 and 4 take the ACRB 3 + 9 pixels far."""
    net = block(4)
    for parameter in net.parameters():
        # Nothing cancels and no ReLU cuts off, so that the gradient shows every connection.
        nn.init.constant_(parameter, 0.1)
    x = torch.ones(1, 4, 33, 33, requires_grad=True)
    net(x)[0, 0, 16, 16].backward()
    reached = x.grad[0].sum(dim=0).nonzero()
    assert reached.amin(dim=0).tolist() == [16 - radius, 16 - radius]
    assert reached.amax(dim=0).tolist() == [16 + radius, 16 + radius]


def test_a_single_tensor_is_not_copied():
    one, other = torch.rand(1, 2, 3, 3), torch.rand(1, 4, 3, 3)
    assert concatenate([one]) is one
    assert torch.equal(concatenate([one, other]), torch.cat([one, other], dim=1))
