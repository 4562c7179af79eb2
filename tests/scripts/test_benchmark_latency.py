"""The table of latencies: runs that are stopped go on, and networks that only the table has."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import benchmark_latency
from mimo_unet_arch import MIMOUNet

from macr_plugin.benchmark.measuring.cost import count_macs, count_parameters


def run(path, *arguments):
    benchmark_latency.main(
        ["--networks", "MACR-small", "--runs", "1", "--device", "cpu", "--json", str(path), *arguments]
    )
    return json.loads(path.read_text())["rows"]


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    first = run(tmp_path / "latency.json", "--sizes", "32x32")
    assert {"channels last ms", "contiguous ms"} <= first[0].keys()
    measured = []
    original = benchmark_latency.measure_latencies

    def record(build, cost, devices, clock):
        measured.append((cost.sizes[-1], cost.channels_last))
        return original(build, cost, devices, clock)

    monkeypatch.setattr(benchmark_latency, "measure_latencies", record)
    rows = run(tmp_path / "latency.json", "--sizes", "32x32", "32x48", "--resume", "--processor-time")
    assert rows[0] == first[0]
    assert rows[1]["width"] == 48
    # The layout that the first run found faster.
    assert measured == [((32, 48), first[0]["layout"] == "channels last")]


def test_what_an_earlier_run_has_measured_decides_what_is_left_out(tmp_path):
    first = run(tmp_path / "latency.json", "--sizes", "32x32")
    arguments = ["--sizes", "32x32", "512x512", "--resume", "--skip-above", str(first[0]["median_ms"] / 1e3)]
    rows = run(tmp_path / "latency.json", *arguments)
    assert [row["median_ms"] for row in rows] == [first[0]["median_ms"], None]
    assert rows[1]["error"].startswith("left out: about")


def test_mimo_unet_has_the_published_size_and_cost():
    """Figures of the authors' code; its outputs have not been compared with it."""
    network = MIMOUNet()
    assert count_parameters(network) == 6_807_171
    assert round(count_macs(network, (256, 256)).macs / 1e9, 1) == 63.7
    with torch.no_grad():
        small = MIMOUNet(num_feat=8, num_blocks=1)
        pyramid = small(torch.rand(1, 3, 16, 24), all_scales=True)
        assert [tuple(picture.shape[-2:]) for picture in pyramid] == [(16, 24), (8, 12), (4, 6)]
