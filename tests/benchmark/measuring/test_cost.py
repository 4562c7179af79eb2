import copy
import time

import basicsr  # noqa: F401  registers the plugin
import numpy as np
import pytest
import torch
from torch import nn

from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.measuring import cost as cost_module
from macr_plugin.benchmark.measuring.cost import count_macs, count_parameters, measure_latencies
from macr_plugin.benchmark.measuring.networks import build_restorer
from macr_plugin.benchmark.options import MODES, Cost, Entry
from macr_plugin.inference.restorer import Restorer

NAFNET_32 = {
    "type": "SpandrelNet",
    "architecture": "NAFNet",
    "width": 32,
    "enc_blk_nums": [1, 1, 1, 28],
    "middle_blk_num": 1,
    "dec_blk_nums": [1, 1, 1, 1],
}
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("network", "gmacs", "millions"),
    [
        (NAFNET_32, 16.0, 17.11),
        ({"type": "SpandrelNet", "architecture": "Restormer"}, 154.9, 26.13),
        ({"type": "DeepDeblur"}, 335.9, 11.72),
        ({"type": "SRNDeblurNet"}, 83.5, 6.88),
    ],
    ids=["NAFNet-32", "Restormer", "DeepDeblur", "SRN"],
)
def test_figures_known_from_elsewhere(network, gmacs, millions):
    """At 256x256; NAFNet's from its paper, the others measured with other tools."""
    if network.get("architecture"):
        pytest.importorskip("spandrel")
    if network.get("architecture") == "Restormer":
        pytest.importorskip("spandrel_extra_arches")
    restorer = build_restorer(Entry("x", network))
    assert count_macs(restorer, (256, 256)).macs / 1e9 == pytest.approx(gmacs, rel=0.02)
    assert count_parameters(restorer) / 1e6 == pytest.approx(millions, abs=0.005)


def test_multiply_accumulates_in_closed_form():
    """A padded 5x7 picture becomes 8x8; tiles count with what they share."""
    network = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    per_pixel = 3 * 3 * 9
    assert count_macs(Restorer(network, size_multiple=8), (5, 7)).macs == 64 * per_pixel
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    assert count_macs(Restorer(network, tile=Tile(16, 4)), (16, 28)).macs == 2 * 16 * 16 * 9


def test_a_network_that_cannot_run_on_shapes_is_counted_by_running_it():
    class NeedsValues(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.layer(x) * float(x.mean() + 1)

    assert count_macs(NeedsValues(), (4, 4)).macs == 16 * 9


def test_a_sparse_product_counts_its_stored_numbers():
    class Sparse(nn.Module):
        def forward(self, x):
            kept = torch.eye(5, 5).to_sparse_csr()
            full = torch.ones(5, 5)
            return (full @ (kept @ x[0, 0].float().cpu())).to(x)

    # 5 stored numbers and then 25, for each of 7 columns.
    assert count_macs(Sparse(), (5, 7)).macs == (5 + 25) * 7


class Slow(nn.Module):
    """Takes as long as the test says."""

    def __init__(self, milliseconds):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.milliseconds = iter(milliseconds)

    def forward(self, x):
        time.sleep(next(self.milliseconds) / 1000)
        return x * self.scale


def test_percentiles_and_throughput_without_the_warm_up():
    clock = iter(np.cumsum([0, *[value for run in (1, 2, 3, 4, 10) for value in (run, 0)]]) / 1000)
    cost = Cost(sizes=((8, 8),), batch=2, runs=5, warm_up=3)
    (latency,) = measure_latencies(lambda: Restorer(Slow([0] * 8)), cost, [CPU], lambda: next(clock))
    assert latency.error is None
    assert latency.median_ms == pytest.approx(3)
    assert latency.p10_ms == pytest.approx(1.4)
    assert latency.p90_ms == pytest.approx(7.6)
    assert latency.frames_per_second == pytest.approx(2 * 5 / 0.020)
    assert latency.peak_memory_mib is None


def test_real_time_is_measured():
    cost = Cost(sizes=((8, 8),), runs=5, warm_up=1)
    (latency,) = measure_latencies(lambda: Restorer(Slow([1] + [20] * 5)), cost, [CPU])
    assert latency.median_ms > 19


def test_every_combination_has_a_row_and_a_failing_one_its_error():
    class DislikesBfloat16(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            if x.dtype == torch.bfloat16 and x.shape[-1] == 24:
                raise RuntimeError("no kernel for this\nand a long trace")
            return self.layer(x)

    cost = Cost(sizes=((16, 16), (16, 24)), precisions=("fp32", "bf16"), modes=("eager", "cuda_graph"), runs=2)
    rows = list(measure_latencies(lambda: Restorer(DislikesBfloat16()), cost, [CPU]))
    assert len(rows) == 8
    for row in rows:
        if row.mode == "cuda_graph":
            assert row.error == "RuntimeError: a CUDA graph needs an NVIDIA GPU"
        elif row.dtype == "bf16" and row.width == 24:
            assert row.error == "RuntimeError: no kernel for this"
        else:
            assert row.median_ms > 0


@pytest.mark.parametrize("tile", [None, Tile(16, 4)])
def test_every_network_has_the_optimized_mode(tile):
    """What applies to it: a MACR, padded or in tiles, and any other network."""
    for network in ({"type": "MACR", "num_feat": 8, "num_blocks": 1, "num_scales": 1}, {"type": "SRNDeblurNet"}):
        cost = Cost(sizes=((32, 44),), modes=("optimized",), runs=1, warm_up=1)
        restorer = build_restorer(Entry("x", network, size_multiple=8))
        restorer.tile = tile
        (latency,) = measure_latencies(lambda restorer=restorer: restorer, cost, [CPU])
        assert latency.error is None
        assert latency.median_ms > 0
        assert restorer.network.treatment.channels_last


def test_a_device_that_is_lost_between_two_timings_is_a_row(monkeypatch):
    """After an illegal access everything fails, even giving memory back."""

    def fail(device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(cost_module, "release_memory", fail)
    cost = Cost(sizes=((8, 8), (8, 16)), runs=1)
    rows = list(measure_latencies(lambda: Restorer(nn.Conv2d(3, 3, 1)), cost, [CPU]))
    assert [row.error for row in rows] == ["RuntimeError: CUDA error: an illegal memory access was encountered"] * 2


def test_the_global_precision_settings_come_back():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    seen = []

    class Looks(Slow):
        def forward(self, x):
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
            return x

    cost = Cost(sizes=((8, 8),), precisions=("tf32", "fp32"), runs=1, warm_up=1)
    list(measure_latencies(lambda: Restorer(Looks([])), cost, [CPU]))
    assert seen == [(True, True)] * 2 + [(False, False)] * 2
    assert before == (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    )


@pytest.mark.slow
def test_a_compiled_network_is_timed():
    cost = Cost(sizes=((16, 16),), modes=("compiled",), runs=2)
    (latency,) = measure_latencies(lambda: Restorer(nn.Conv2d(3, 3, 3, padding=1)), cost, [CPU])
    assert latency.error is None
    assert latency.median_ms > 0


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_mode_on_a_gpu(precision):
    network = build_restorer(Entry("x", {"type": "MACR", "num_feat": 16, "num_blocks": 1}))
    cost = Cost(sizes=((64, 96),), precisions=(precision,), modes=MODES, runs=5)
    for latency in measure_latencies(lambda: copy.deepcopy(network), cost, [torch.device("cuda")]):
        assert latency.error is None, latency
        assert latency.p10_ms <= latency.median_ms <= latency.p90_ms
        assert latency.peak_memory_mib > 0


@pytest.mark.cuda
def test_a_network_that_needs_too_much_memory_is_a_row():
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return x.expand(1, 3, -1, -1).repeat(1, 10**7, 1, 1)[:, :3]

    cost = Cost(sizes=((720, 1280),), runs=1)
    (latency,) = measure_latencies(lambda: Restorer(Greedy()), cost, [torch.device("cuda")])
    assert latency.error.startswith("OutOfMemoryError")
