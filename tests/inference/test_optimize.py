"""The same pictures in fewer operations: against the plain network, in every type that it may run in."""

import copy
import logging

import basicsr  # noqa: F401  registers the plugin
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from macr_plugin.archs.blocks import DenseConnectionBlock, ResidualBlock
from macr_plugin.archs.macr_arch import MACR, MSRM
from macr_plugin.benchmark.measuring.operations import count_operations
from macr_plugin.inference import optimize as module
from macr_plugin.inference.optimize import (
    ConvReLU,
    Treatment,
    fuse_relu,
    merge_branches,
    optimize,
    treatments_for,
)
from macr_plugin.models.acceleration import Acceleration

SMALL = {"num_feat": 8, "num_blocks": 2, "branch_channels": 3}
EVERYTHING = Treatment(channels_last=True, fused=True, merged=True)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


needs_bf16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="oneDNN has no bf16 on this processor",
)


class DispatchedNames(TorchDispatchMode):
    """Notes the name of every operation."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def macr(**options):
    torch.manual_seed(0)
    network = MACR(**{**SMALL, **options}).eval()
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, -0.1, 0.1)
    return network


def pictures(*shape, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def difference(network, optimized, x):
    with torch.no_grad():
        plain, ours = network(x), optimized(x)
    return ((plain.double() - ours.double()).abs().max() / plain.double().abs().max()).item()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"skip_connections": True, "num_msrm": 2},
        {"fuse_inputs": "all", "global_skip": False},
        {"block": "resblock"},
        {"block": "dcb", "num_scales": 1},
        {"block": "rdb", "dilations": [1]},
    ],
)
@pytest.mark.parametrize("size", [(32, 48), (37, 51)])
def test_exact_in_double(options, size):
    network = macr(**options).double()
    optimized = optimize(network, pictures(1, 3, 32, 32, dtype=torch.float64), treatments=[EVERYTHING])
    assert optimized.treatment == EVERYTHING
    assert difference(network, optimized, pictures(2, 3, *size, dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_other_types_within_the_stated_tolerance(dtype, tolerance):
    network = macr().to(dtype)
    optimized = optimize(network, pictures(1, 3, 32, 32, dtype=dtype), treatments=[EVERYTHING])
    assert optimized.treatment == EVERYTHING
    assert difference(network, optimized, pictures(1, 3, 40, 56, dtype=dtype)) < tolerance


def test_under_autocast():
    network = macr()
    with torch.autocast("cpu", torch.bfloat16):
        optimized = optimize(network, pictures(1, 3, 32, 32), treatments=[EVERYTHING])
        assert optimized.treatment == EVERYTHING
        assert difference(network, optimized, pictures(1, 3, 40, 56)) < 3e-2
    # Autocast would keep casts of weights that need a gradient, and free them while a captured pass still reads them.
    assert not any(weight.requires_grad for weight in optimized.parameters())
    assert all(weight.requires_grad for weight in network.parameters())


def test_the_network_itself_stays_as_it_is():
    network = macr()
    before = copy.deepcopy(network.state_dict())
    optimize(network, pictures(1, 3, 32, 32), treatments=[EVERYTHING])
    assert str(network) == str(macr())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.stride() == before[name].stride()


class Pyramids(nn.Module):
    """Returns a pyramid, coarsest first."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.ReLU())

    def forward(self, x):
        finest = self.layers(x)
        return [finest[..., ::2, ::2], finest]


def test_any_network_and_a_pyramid():
    network = Pyramids().double()
    x = pictures(1, 3, 16, 16, dtype=torch.float64)
    optimized = optimize(network, x, treatments=[Treatment(fused=True)])
    assert [type(layer) for layer in optimized.network.layers] == [ConvReLU, nn.Identity] * 2
    with torch.no_grad():
        assert torch.equal(optimized(x), network(x)[1])


def test_a_treatment_that_changes_the_result_is_left_out(monkeypatch, caplog):
    """Told a wrong network, it says so and falls back to the plain one."""

    def wrong(branches):
        merged = merge_branches(branches)
        merged.weight.mul_(1.001)
        return merged

    monkeypatch.setattr(module, "merge_branches", wrong)
    network = macr()
    optimized = optimize(network, pictures(1, 3, 32, 32), treatments=[Treatment(merged=True)])
    assert optimized.treatment == Treatment()
    assert optimized.network is network
    assert "merged changes the result by" in caplog.text
    assert difference(network, optimized, pictures(1, 3, 32, 48)) == 0
    several = optimize(network, pictures(1, 3, 32, 32), treatments=[Treatment(merged=True), Treatment(fused=True)])
    assert several.treatment == Treatment(fused=True)


def test_the_tolerance_decides(caplog):
    network = macr()
    optimized = optimize(network, pictures(1, 3, 32, 32), treatments=[EVERYTHING], tolerance=0)
    assert optimized.treatment in (Treatment(), EVERYTHING)
    with caplog.at_level(logging.WARNING):
        assert optimize(network, pictures(1, 3, 32, 32) * torch.nan, treatments=[EVERYTHING]).treatment == Treatment()


@pytest.mark.parametrize("fails", ["fuse_relu", "lay_out"])
def test_a_treatment_that_fails_is_left_out(monkeypatch, caplog, fails):
    def fail(*_):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(module, fails, fail)
    network = macr()
    assert optimize(network, pictures(1, 3, 32, 32), treatments=[EVERYTHING]).network is network
    assert "no kernel for this" in caplog.text


def test_the_fastest_of_those_that_agree(monkeypatch):
    seconds = {Treatment(fused=True): 3.0, Treatment(merged=True): 1.0, Treatment(channels_last=True): 2.0}
    monkeypatch.setattr(module, "_seconds", lambda network, example: seconds[network.treatment])
    optimized = optimize(macr(), pictures(1, 3, 32, 32), treatments=list(seconds))
    assert optimized.treatment == Treatment(merged=True)


def test_what_is_tried_depends_on_the_device(monkeypatch):
    assert treatments_for(CPU) == [Treatment(channels_last=True, fused=True)]
    monkeypatch.setattr(module, "best_acceleration", lambda device: Acceleration(channels_last=False))
    tried = treatments_for(CUDA, compile=True)
    assert not any(treatment.channels_last for treatment in tried), "a card without tensor cores"
    assert all(treatment.cuda_graph or treatment.compile for treatment in tried)


def test_branches_of_any_kernels_merge():
    block = MSRM(6, 5).double()
    x = pictures(1, 6, 9, 11, dtype=torch.float64)
    merged = merge_branches(block.branches)
    assert merged.weight.shape == (20, 6, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(merged(x), torch.cat([b(x) for b in block.branches], 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("block", [ResidualBlock(4), DenseConnectionBlock(4, 2, 3)])
def test_fewer_operations_of_the_blocks(block):
    x = pictures(1, 4, 8, 8)
    with torch.no_grad():
        before, expected = count_operations(lambda: block(x)), block(x)
        fuse_relu(block)
        assert count_operations(lambda: block(x)) < before
        assert torch.equal(block(x), expected)


def test_operations_of_a_whole_pass():
    """A convolution and its ReLU count as one, as on a GPU; nothing is concatenated that need not be."""
    network, x = macr(num_blocks=8).eval(), pictures(1, 3, 32, 32)
    optimized = optimize(network, x, treatments=[EVERYTHING])
    with torch.no_grad():
        plain, ours = count_operations(lambda: network(x)), count_operations(lambda: optimized(x))
    # 3 scales of 8 ACRBs with 7 convolutions, 6 ReLUs, 5 concatenations and an addition, and what surrounds them.
    assert plain == 528
    assert ours == 358


class Graphs:
    """Stands in for the capture of a pass."""

    def __init__(self, monkeypatch):
        self.captures = []
        monkeypatch.setattr(module, "_capture_pass", self.capture)

    def capture(self, network, x):
        self.captures.append(tuple(x.shape))
        return network


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def test_sizes_that_come_again_are_captured_and_few_are_kept(monkeypatch):
    graphs = Graphs(monkeypatch)
    network = nn.Conv2d(3, 3, 3, padding=1)
    optimized = module.OptimizedNetwork(network, Treatment(cuda_graph=True))
    for side in [8] * 5 + [9, 8, 9, 9] + [10] * 3 + [8]:
        x = pictures(1, 3, side, side).as_subclass(OnGpu)
        with torch.no_grad():
            optimized(x)
    assert [shape[-1] for shape in graphs.captures] == [8, 9, 10, 8]
    optimized.forget_captures()
    assert optimized._captured == {}


@pytest.mark.parametrize("error", [RuntimeError("Unable to find an engine"), torch.OutOfMemoryError("full")])
def test_a_layer_for_which_cudnn_has_no_kernel_runs_as_two(monkeypatch, error):
    """The others stay fused; memory that runs out is told as it is."""
    asked = []

    def convolve(x, weight, *_):
        asked.append(weight.shape[1])
        if weight.shape[1] == 3:
            raise error
        return torch.relu(nn.functional.conv2d(x, weight, padding=1))

    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolve)
    layers = [ConvReLU(nn.Conv2d(channels, 8, 3, padding=1, bias=False)) for channels in (3, 8)]
    network, x = nn.Sequential(*layers), pictures(1, 3, 16, 16).as_subclass(OnGpu)
    with torch.no_grad():
        if isinstance(error, torch.OutOfMemoryError):
            with pytest.raises(torch.OutOfMemoryError):
                network(x)
            return
        outputs = [network(x) for _ in range(2)]
        expected = layers[1].layer(layers[0].layer(x).relu()).relu()
    assert asked == [3, 8, 8]
    for output in outputs:
        torch.testing.assert_close(output.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))


class ByUsers(nn.Module):
    """Convolutions of many kinds in plain sequences, each before a ReLU."""

    def __init__(self):
        super().__init__()
        layers = [
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 5, stride=2, padding=2, bias=False),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4),
            nn.ConvTranspose2d(8, 6, 5, stride=3, padding=2, output_padding=1, groups=2),
            nn.Conv2d(6, 7, 3, padding="same"),
            nn.Conv2d(7, 5, 3, padding=1, padding_mode="reflect"),
        ]
        self.layers = nn.Sequential(*(one for layer in layers for one in (layer, nn.ReLU())))

    def forward(self, x):
        return self.layers(x)


@needs_bf16
@pytest.mark.parametrize("network", [macr(), macr(skip_connections=True, block="rdb"), ByUsers().eval()])
@pytest.mark.parametrize("autocast", [True, False])
def test_a_processor_with_bf16_computes_a_convolution_with_its_relu(network, autocast):
    """Rounding and clipping below at 0 may change places, so that the result is the same bit for bit."""
    network = copy.deepcopy(network) if autocast else copy.deepcopy(network).to(torch.bfloat16)
    x = pictures(2, 3, 37, 51, dtype=torch.float32 if autocast else torch.bfloat16)
    treated = copy.deepcopy(network)
    fuse_relu(treated)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with DispatchedNames() as plain:
            expected = network(x)
        with DispatchedNames() as fused:
            restored = treated(x)
    torch.testing.assert_close(restored, expected, rtol=0, atol=0)
    assert not any("pointwise" in name for name in plain.names)
    left = sum("relu" in name or "clamp_min" in name for name in fused.names)
    # Padding by name, and by mirroring, are for two kernels.
    assert left == (2 if isinstance(network, ByUsers) else 0)


def test_a_processor_without_such_a_kernel_runs_two(monkeypatch):
    asked = []

    def refuse(*_):
        asked.append(1)
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", refuse)
    pair, x = ConvReLU(nn.Conv2d(3, 8, 3, padding=1).to(torch.bfloat16)), pictures(1, 3, 9, 9, dtype=torch.bfloat16)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(pair(x), pair.layer(x).relu())
    assert asked == [1]


def test_memory_that_runs_out_is_no_missing_kernel(monkeypatch):
    """The next picture may be smaller: its convolutions are asked for again."""

    def refuse(*_):
        raise RuntimeError("could not create a primitive")

    pair, x = ConvReLU(nn.Conv2d(3, 8, 3, padding=1).to(torch.bfloat16)), pictures(1, 3, 9, 9, dtype=torch.bfloat16)
    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(torch.ops.mkldnn, "_convolution_pointwise", refuse)
        patch.setattr(pair.layer, "forward", refuse)
        with pytest.raises(RuntimeError, match="primitive"):
            pair(x)
    with torch.no_grad():
        assert pair._may_be_one(x, torch.bfloat16)


# ----------------------------------------------------------------------------------------------------------------------
# On a GPU
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("treatment", [Treatment(True), Treatment(True, fused=True, merged=True, cuda_graph=True)])
def test_every_treatment_on_a_gpu(dtype, treatment):
    network = macr(num_feat=16).to(CUDA, dtype)
    x = pictures(1, 3, 64, 96).to(CUDA, dtype)
    optimized = optimize(network, x, treatments=[treatment])
    assert optimized.treatment == treatment
    assert bool(optimized._captured) == treatment.cuda_graph
    other = pictures(1, 3, 64, 96).flip(-1).to(CUDA, dtype)
    assert difference(network, optimized, other) < module.TOLERANCES[dtype]


@pytest.mark.cuda
def test_under_autocast_on_a_gpu():
    network = macr(num_feat=16).to(CUDA)
    x = pictures(1, 3, 64, 96).to(CUDA)
    with torch.autocast("cuda", torch.bfloat16):
        optimized = optimize(network, x)
        assert optimized.treatment != Treatment()
        assert difference(network, optimized, x) < 3e-2
