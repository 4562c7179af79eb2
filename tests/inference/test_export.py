import json

import numpy as np
import pytest
import torch
from torch import nn

from macr_plugin.archs import MACR, DeepDeblur, SRNDeblurNet
from macr_plugin.errors import InputError
from macr_plugin.inference.export import EXTRA_FILE, export_network

NETWORKS = {
    "MACR": MACR(num_feat=8, num_blocks=1, branch_channels=2),
    "MACR with skips": MACR(8, 1, 2, block="rdb", branch_channels=2, skip_connections=True, fuse_inputs="all"),
    "SRNDeblurNet": SRNDeblurNet(num_feat=4, num_blocks=1, lstm=True),
    "DeepDeblur": DeepDeblur(num_feat=4, num_blocks=1, kernel_size=3),
}
#: An export takes many seconds of a processor.
CASES = [name if name == "MACR" else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
#: The smallest, odd ones below and above the example, and one that every stride divides.
SIZES = [(16, 16), (17, 33), (61, 97), (131, 90), (64, 128)]


def build(name):
    """A network whose results depend on its input so much that an error in a resize shows."""
    torch.manual_seed(0)
    network = NETWORKS[name].eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=1.5 / parameter[0].numel() ** 0.5)
    return network


def largest(expected):
    """What an error is measured by: the range of a picture, or of what random weights make of it if that is more."""
    return max(1.0, float(np.abs(np.asarray(expected)).max()))


def pictures():
    torch.manual_seed(1)
    return [torch.rand(1 + number % 2, 3, *size) for number, size in enumerate(SIZES)]


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_agrees_at_every_size(tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, target = build(name), tmp_path / "new" / "net.onnx"
    metadata = export_network(network, target, "onnx", "weights.pth")
    session = onnxruntime.InferenceSession(target)
    assert session.get_modelmeta().custom_metadata_map == metadata
    assert metadata["network"] == type(network).__name__
    assert metadata["source"] == "weights.pth"
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("blurred", ["batch", 3, "height", "width"])]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("restored", ["batch", 3, "height", "width"])]
    for picture in pictures():
        (restored,) = session.run(None, {"blurred": picture.numpy()})
        with torch.no_grad():
            expected = network(picture).numpy()
        assert expected.std() > 0.05
        assert np.abs(restored - expected).max() < 1e-4 * largest(expected)
    assert [one.name for one in target.parent.iterdir()] == ["net.onnx"]


#: torch.export takes the LSTM's rows of 16 px for a size of their own: such graphs are for pictures from 17 px up.
GUARDED = pytest.param("SRNDeblurNet", marks=pytest.mark.xfail(strict=True, raises=AssertionError))


@pytest.mark.slow
@pytest.mark.parametrize("name", [GUARDED if name == "SRNDeblurNet" else name for name in NETWORKS])
def test_a_graph_of_torch_export_agrees_at_every_size(tmp_path, name):
    network, target = build(name), tmp_path / "net.pt2"
    metadata = export_network(network, target, "torch-export", "weights.pth")
    extra = {EXTRA_FILE: ""}
    program = torch.export.load(target, extra_files=extra).module()
    assert json.loads(extra[EXTRA_FILE]) == metadata
    for picture in pictures():
        with torch.no_grad():
            expected = network(picture)
            torch.testing.assert_close(program(picture), expected, rtol=0, atol=1e-5 * largest(expected))


def test_what_cannot_be_exported_is_one_line(tmp_path):
    class Reader(nn.Module):
        def forward(self, x):
            return x * 2 if x.mean().item() > 0 else x

    with pytest.raises(InputError, match=r"^Reader cannot be exported for every height and width .*choose a MACR"):
        export_network(Reader(), tmp_path / "net.onnx", "onnx")
    with pytest.raises(InputError, match="--format tflite: choose one of onnx, torch-export"):
        export_network(build("MACR"), tmp_path / "net.tflite", "tflite")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package onnx: pip install onnx onnxruntime onnxscript"):
        export_network(build("MACR"), tmp_path / "net.onnx", "onnx")
