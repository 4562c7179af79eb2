"""MACR against the paper's tables, its size contract and plain closed forms."""

import pytest
import torch
from cost import cost_of
from overfitting import gain_after_overfitting
from torch import nn

from macr_plugin.archs import ACRB, MACR, MSRM
from macr_plugin.archs.macr_arch import RGB_CHANNELS
from macr_plugin.archs.padding import crop_to_size, pad_to_multiple
from macr_plugin.archs.pyramid import image_pyramid, resize
from macr_plugin.errors import InputError


@pytest.fixture(scope="module")
def default_net():
    torch.manual_seed(0)
    return MACR().eval()


@pytest.fixture(scope="module")
def small_net():
    torch.manual_seed(0)
    return MACR(num_feat=8, num_blocks=1, branch_channels=2).eval()


def shape_of(layer):
    """Kernel size, output channels, stride and dilation, the columns of the paper's tables."""
    return layer.kernel_size[0], layer.out_channels, layer.stride[0], layer.dilation[0]


def test_table_1(default_net):
    assert shape_of(default_net.conv1) == (3, 64, 1, 1)
    assert shape_of(default_net.conv2) == (3, 64, 2, 1)
    assert shape_of(default_net.conv3) == (3, 64, 2, 1)
    assert shape_of(default_net.reconstruct) == (3, RGB_CHANNELS, 1, 1)


def test_table_2():
    module = MSRM()
    assert [shape_of(branch) for branch in module.branches] == [(size, 16, 1, 1) for size in (1, 3, 5, 7)]
    assert shape_of(module.fuse) == (3, 64, 1, 1)


def test_table_3():
    block = ACRB()
    assert [shape_of(layer) for layer in block.first] == [(3, 64, 1, 1)] * 3
    assert [shape_of(layer) for layer in block.second] == [(3, 64, 1, dilation) for dilation in (2, 3, 4)]
    assert shape_of(block.fuse) == (1, 64, 1, 1)


def test_state_dict_holds_the_tables(default_net):
    """The weights of one block, as a checkpoint stores them."""
    shapes = {name: tuple(value.shape) for name, value in default_net.state_dict().items() if "blocks.0" in name}
    assert {name: shape for name, shape in shapes.items() if name.endswith("weight")} == {
        "blocks.0.first.0.weight": (64, 64, 3, 3),
        "blocks.0.second.0.weight": (64, 64, 3, 3),
        "blocks.0.first.1.weight": (64, 128, 3, 3),
        "blocks.0.second.1.weight": (64, 128, 3, 3),
        "blocks.0.first.2.weight": (64, 192, 3, 3),
        "blocks.0.second.2.weight": (64, 192, 3, 3),
        "blocks.0.fuse.weight": (64, 256, 1, 1),
    }


def test_state_dict_keys_are_those_of_the_first_release():
    """Checkpoints written before the backbone's block became an option."""
    modules = [
        *("conv1", "conv2", "conv3", "upsample1", "upsample2", "reconstruct", "msrm.0.fuse"),
        *(f"msrm.0.branches.{branch}" for branch in range(4)),
        *(f"blocks.{block}.fuse" for block in range(8)),
        *(f"blocks.{block}.{kind}.{pair}" for block in range(8) for kind in ("first", "second") for pair in range(3)),
    ]
    with torch.device("meta"):
        keys = MACR().state_dict().keys()
    assert set(keys) == {"_extra_state", *(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))}


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        (ACRB(), 459_200),
        (ACRB(fuse_inputs="all"), 467_392),
        (MSRM(), 123_008),
        (MACR(), 4_006_915),
        (MACR(num_scales=1), 4_006_915),
        (MACR(num_blocks=16), 7_680_515),
    ],
    ids=["acrb", "acrb-all", "msrm", "macr", "one-scale", "16-blocks"],
)
def test_parameter_count(net, parameters):
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_multiply_accumulates_at_256(default_net):
    """Counted from the layers' output sizes: 33.5 G at 256x256."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        # A transposed convolution spends its kernel on every input pixel, a convolution on every output pixel.
        pixels = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output)[0, 0].numel()
        total += layer.weight.numel() * pixels

    layers = [layer for layer in default_net.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        default_net(torch.rand(1, 3, 256, 256))
    for handle in handles:
        handle.remove()
    assert total / 1e9 == pytest.approx(33.5, abs=0.05)


@pytest.mark.parametrize(
    ("options", "parameters", "giga_multiply_accumulates"),
    [
        ({"num_scales": 1}, 4_006_915, 25.52),
        ({"num_scales": 2}, 4_006_915, 31.90),
        ({"num_scales": 3}, 4_006_915, 33.50),
        ({"num_scales": 1, "block": "resblock"}, 924_163, 12.91),
        ({"num_scales": 1, "block": "dcb"}, 1_539_075, 15.42),
        ({"num_scales": 1, "block": "rdb"}, 11_249_667, 55.18),
    ],
    ids=["1-scale", "2-scales", "3-scales", "resblock", "dcb", "rdb"],
)
def test_cost_of_the_ablations(options, parameters, giga_multiply_accumulates):
    counted, multiply_accumulates = cost_of(lambda: MACR(**options))
    assert counted == parameters
    assert multiply_accumulates / 1e9 == pytest.approx(giga_multiply_accumulates, abs=0.005)


@pytest.mark.parametrize("size", [(16, 16), (16, 61), (17, 31), (33, 50), (64, 64), (101, 67), (18, 130)])
@torch.no_grad()
def test_every_size_is_kept(small_net, size):
    pyramid = small_net(torch.rand(2, 3, *size), all_scales=True)
    expected = [(-(-size[0] // 2**scale), -(-size[1] // 2**scale)) for scale in range(3)]
    assert [tuple(picture.shape) for picture in pyramid] == [(2, 3, *scale_size) for scale_size in expected]


@pytest.mark.parametrize("block", ["resblock", "dcb", "rdb"])
@torch.no_grad()
def test_every_size_is_kept_whatever_the_block(block):
    net = MACR(num_feat=8, num_blocks=2, branch_channels=2, block=block)
    for size in ((16, 16), (17, 31), (101, 67)):
        assert net(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@torch.no_grad()
def test_plain_forward_is_the_finest_scale(small_net):
    picture = torch.rand(1, 3, 37, 45)
    assert torch.equal(small_net(picture), small_net(picture, all_scales=True)[0])


@pytest.mark.parametrize("num_scales", [1, 2, 3])
def test_minimum_size(num_scales):
    net = MACR(num_feat=8, num_blocks=1, branch_channels=2, num_scales=num_scales)
    minimum = net.minimum_size
    assert minimum == 4 * 2 ** (num_scales - 1)
    assert net(torch.rand(1, 3, minimum, minimum)).shape == (1, 3, minimum, minimum)
    with pytest.raises(InputError, match=rf"at least {minimum}x{minimum} px and got {minimum - 1}x99"):
        net(torch.rand(1, 3, minimum - 1, 99))


def test_weights_are_shared_over_the_scales():
    """Adding scales adds no weight, and every scale is restored by the same layers."""
    one, three = MACR(num_scales=1), MACR(num_scales=3)
    assert {name: value.shape for name, value in one.state_dict().items()} == {
        name: value.shape for name, value in three.state_dict().items()
    }
    calls = []
    three.reconstruct.register_forward_hook(lambda layer, inputs, output: calls.append(tuple(output.shape[-2:])))
    three(torch.rand(1, 3, 64, 48))
    assert calls == [(16, 12), (32, 24), (64, 48)]


@torch.no_grad()
def test_coarse_to_fine_order_and_inputs(small_net):
    """Each scale sees its own blurred picture and the resized result of the coarser one; the coarsest sees itself."""
    seen = []
    handle = small_net.conv1.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    picture = torch.rand(1, 3, 64, 64)
    pyramid = small_net(picture, all_scales=True)
    handle.remove()
    blurred = image_pyramid(picture, 3)
    assert torch.equal(seen[0], torch.cat([blurred[2], blurred[2]], dim=1))
    assert torch.equal(seen[1], torch.cat([blurred[1], resize(pyramid[2], (32, 32))], dim=1))
    assert torch.equal(seen[2], torch.cat([blurred[0], resize(pyramid[1], (64, 64))], dim=1))


@torch.no_grad()
def test_acrb_wiring():
    """The block, written out layer by layer from Fig. 3's description."""
    torch.manual_seed(0)
    block = ACRB(num_feat=4)
    x = torch.randn(1, 4, 20, 20)
    relu = torch.relu
    a1 = relu(block.first[0](x))
    b1 = relu(block.second[0](a1))
    a2 = relu(block.first[1](torch.cat([x, b1], 1)))
    b2 = relu(block.second[1](torch.cat([a1, a2], 1)))
    a3 = relu(block.first[2](torch.cat([x, b1, b2], 1)))
    b3 = relu(block.second[2](torch.cat([a1, a2, a3], 1)))
    torch.testing.assert_close(block(x), x + block.fuse(torch.cat([x, b1, b2, b3], 1)))

    block = ACRB(num_feat=4, fuse_inputs="all")
    a1 = relu(block.first[0](x))
    b1 = relu(block.second[0](a1))
    a2 = relu(block.first[1](torch.cat([x, b1], 1)))
    b2 = relu(block.second[1](torch.cat([a1, a2], 1)))
    a3 = relu(block.first[2](torch.cat([x, b1, b2], 1)))
    b3 = relu(block.second[2](torch.cat([a1, a2, a3], 1)))
    torch.testing.assert_close(block(x), x + block.fuse(torch.cat([a1, b1, a2, b2, a3, b3], 1)))


@torch.no_grad()
def test_msrm_wiring():
    torch.manual_seed(0)
    module = MSRM(num_feat=8, branch_channels=2)
    x = torch.randn(1, 8, 12, 9)
    branches = torch.cat([torch.relu(branch(x)) for branch in module.branches], 1)
    torch.testing.assert_close(module(x), x + torch.relu(module.fuse(branches)))


@torch.no_grad()
def test_residual_model_with_zero_weights_returns_its_input():
    net = MACR(num_feat=8, num_blocks=1, branch_channels=2)
    for parameter in net.parameters():
        parameter.zero_()
    picture = torch.rand(1, 3, 33, 47)
    assert torch.equal(net(picture), picture)
    net.global_skip = False
    assert torch.equal(net(picture), torch.zeros_like(picture))


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"skip_connections": True}, {"fuse_inputs": "all"}, {"num_msrm": 2}),
        *({"block": "resblock"}, {"block": "dcb"}, {"block": "rdb"}),
    ],
)
def test_gradient_reaches_every_parameter(options):
    torch.manual_seed(0)
    net = MACR(num_feat=8, num_blocks=2, branch_channels=2, **options)
    sum(picture.square().mean() for picture in net(torch.rand(1, 3, 32, 32), all_scales=True)).backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_options_change_the_network():
    torch.manual_seed(0)
    net = MACR(num_feat=8, num_blocks=1, branch_channels=2)
    picture = torch.rand(1, 3, 32, 32)
    plain = net(picture)
    net.skip_connections = True
    assert not torch.allclose(net(picture), plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scales": 0}, "num_scales"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"fuse_inputs": "both"}, "fuse_inputs"),
        ({"block": "ACRB"}, "network_g.block of MACR is one of acrb, resblock, dcb, rdb, not 'ACRB'"),
        ({"block": ["acrb"]}, "network_g.block"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        MACR(num_feat=8, **options)


def test_initial_weights_are_glorot_uniform():
    weight = MACR(num_feat=16, num_blocks=1).conv2.weight.detach()
    bound = (6 / (16 * 9 + 16 * 9)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)


@torch.no_grad()
def test_a_deep_stack_of_residual_blocks_starts_near_the_identity():
    """As many as cost what 8 ACRBs cost. Plain Glorot weights would multiply the features by tens of thousands."""
    torch.manual_seed(0)
    blocks = MACR(num_feat=16, num_blocks=50, block="resblock").blocks
    x = torch.randn(1, 16, 24, 24)
    assert blocks(x).std() < 2 * x.std()


@pytest.mark.parametrize(
    ("block", "num_scales"), [("acrb", 1), ("acrb", 2), ("acrb", 3), ("resblock", 1), ("dcb", 1), ("rdb", 1)]
)
def test_overfits_one_crop(block, num_scales):
    torch.manual_seed(0)
    net = MACR(num_feat=16, num_blocks=2, branch_channels=4, num_scales=num_scales, block=block)
    assert gain_after_overfitting(net, iterations=120, learning_rate=1e-3) > 1


def test_padding_is_undone_and_replicates_the_border():
    picture = torch.rand(1, 3, 5, 6)
    padded = pad_to_multiple(picture, 4)
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded[..., 5:, :6], picture[..., -1:, :].expand(1, 3, 3, 6))
    assert torch.equal(crop_to_size(padded, (5, 6)), picture)
    assert pad_to_multiple(picture[..., :4, :4], 4).shape == (1, 3, 4, 4)


def test_pyramid_halves_from_full_resolution():
    """Halving with the antialiased bilinear filter: a (1, 3, 3, 1) / 8 kernel along each side, away from the border."""
    picture = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    row = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    kernel = torch.outer(row, row)[None, None]
    expected = torch.nn.functional.conv2d(picture[..., 1:-1, 1:-1], kernel, stride=2)
    torch.testing.assert_close(image_pyramid(picture, 2)[1][..., 1:-1, 1:-1], expected)
