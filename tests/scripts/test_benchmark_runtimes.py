"""The table of runtimes: what is installed takes turns, and all give the same picture."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import benchmark_latency
import benchmark_runtimes


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_figures_and_table(tmp_path, monkeypatch, capsys, precision, tolerance):
    tiny = {"type": "DeepDeblur", "num_feat": 4, "num_blocks": 1, "num_scales": 1, "kernel_size": 3}
    monkeypatch.setitem(benchmark_latency.NETWORKS, "tiny", (tiny, 1))
    path = tmp_path / "runtimes.json"
    sizes = ["--sizes", "32x48", "--rounds", "3", "--precision", precision]
    benchmark_runtimes.main(["--network", "tiny", *sizes, "--threads", "1", "--json", str(path)])
    report, said = json.loads(path.read_text()), capsys.readouterr().out
    expected = ["eager, contiguous", "eager, channels last", "optimize()", "torch.compile, channels last"]
    packages = (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))[precision == "bf16" :]
    expected += [title for package, title in packages if importlib.util.find_spec(package)]
    assert [row["runtime"] for row in report["rows"]] == expected
    assert (report["machine"]["network"], report["machine"]["precision"]) == ("tiny", precision)
    for row in report["rows"]:
        assert (row["height"], row["width"]) == (32, 48)
        assert 0 < row["range"][0] <= row["seconds"] <= row["range"][1]
        assert row["largest difference"] < tolerance
        assert f"| {row['runtime']} | 32x48 | " in said
    assert report["rows"][1]["largest difference"] == 0


def test_each_runtime_stands_beside_eager_at_its_own_size():
    def row(runtime, height, seconds):
        return {
            "runtime": runtime,
            "height": height,
            "width": 64,
            "seconds": seconds,
            "range": [seconds, 2 * seconds],
            "largest difference": 2e-6,
        }

    rows = [row("eager, channels last", 32, 2.0), row("ONNX Runtime", 32, 1.0)]
    rows += [row("eager, channels last", 64, 8.0), row("ONNX Runtime", 64, 16.0)]
    lines = benchmark_runtimes.write_table(rows).splitlines()
    assert lines[3] == "| ONNX Runtime | 32x64 | 1 (1-2) | 2.00x | 2.0e-06 |"
    assert lines[5] == "| ONNX Runtime | 64x64 | 16 (16-32) | 0.50x | 2.0e-06 |"


@pytest.mark.parametrize("arguments", [("--network", "unknown"), ("--sizes", "32")])
def test_bad_arguments(arguments):
    with pytest.raises(SystemExit):
        benchmark_runtimes.main(arguments)
