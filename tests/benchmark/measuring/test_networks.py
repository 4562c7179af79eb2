import basicsr  # noqa: F401  registers the plugin
import pytest
import torch

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.measuring.networks import build_restorer, describe_changed_options, describe_inference
from macr_plugin.benchmark.options import Entry
from macr_plugin.errors import InputError
from macr_plugin.weights.checkpoint import load_weights

NETWORK = {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2}


def small_macr(seed):
    torch.manual_seed(seed)
    return MACR(num_feat=8, num_blocks=1, branch_channels=2)


@pytest.mark.parametrize("layout", ["params", "params_ema", "state_dict", "plain", "module"])
def test_weights_of_the_usual_projects(tmp_path, layout):
    weights = small_macr(1).state_dict()
    content = {
        "plain": weights,
        "module": {f"module.{name}": value for name, value in weights.items()},
        "params_ema": {"params": small_macr(2).state_dict(), "params_ema": weights},
    }.get(layout, {layout: weights})
    torch.save(content, tmp_path / "weights.pth")
    restorer = build_restorer(Entry("x", NETWORK), tmp_path / "weights.pth")
    for name, value in restorer.network.state_dict().items():
        assert torch.equal(value, weights[name])
    assert not restorer.training
    assert not any(parameter.requires_grad for parameter in restorer.parameters())


def test_a_chosen_key(tmp_path):
    torch.save({"params": small_macr(1).state_dict(), "params_ema": small_macr(2).state_dict()}, tmp_path / "w.pth")
    restorer = build_restorer(Entry("x", NETWORK, param_key="params"), tmp_path / "w.pth")
    assert torch.equal(restorer.network.conv1.weight, small_macr(1).conv1.weight)
    with pytest.raises(InputError, match=r"have no weights: choose one of params, params_ema"):
        load_weights(small_macr(0), tmp_path / "w.pth", "weights")


def test_unusable_weights_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.pth: No such file"):
        load_weights(small_macr(0), tmp_path / "nowhere.pth")
    (tmp_path / "damaged.pth").write_bytes(b"x")
    with pytest.raises(InputError, match=r"damaged.pth are damaged"):
        load_weights(small_macr(0), tmp_path / "damaged.pth")
    torch.save(MACR(num_feat=12).state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth do not fit MACR: .*: check its options"):
        load_weights(small_macr(0), tmp_path / "other.pth")


def test_wrong_arguments_are_named():
    with pytest.raises(InputError, match=r"x: network RIDNet: .*missing.*'in_channels'"):
        build_restorer(Entry("x", {"type": "RIDNet"}))


@pytest.mark.parametrize(
    "network",
    [
        {"type": "RIDNet", "in_channels": 3, "mid_channels": 16, "out_channels": 3, "num_block": 1, "img_range": 1.0},
        {"type": "SwinIR", "upscale": 1, "img_range": 1.0, "depths": [2], "embed_dim": 12, "num_heads": [2]}
        | {"window_size": 8, "upsampler": ""},
    ],
    ids=["RIDNet", "SwinIR"],
)
def test_networks_of_basicsr_take_any_size(network):
    """SwinIR alone takes multiples of its window only."""
    torch.manual_seed(0)
    restorer = build_restorer(Entry("x", network, size_multiple=8 if network["type"] == "SwinIR" else 1))
    picture = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        assert torch.equal(restorer(picture), restorer.network(picture))
        assert restorer(picture[..., :19, :23]).shape == (1, 3, 19, 23)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry("x"), "full"),
        (Entry("x", tile=Tile(256, 16), tlc=True), "tile 256 overlap 16, TLC"),
        (Entry("x", size_multiple=8), "full, padded to 8"),
    ],
)
def test_inference_is_described(entry, text):
    assert describe_inference(entry) == text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, None),
        ({"num_scales": 3}, None),
        ({"global_skip": False}, "global_skip: True, now False"),
        ({"num_scales": 2}, "num_scales: 3, now 2"),
    ],
)
def test_other_options_than_those_of_the_training_are_said(tmp_path, options, said):
    """Options that change no shape; one that is written with its default does not differ."""
    torch.save({"params": small_macr(1).state_dict(), "network_g": NETWORK}, tmp_path / "w.pth")
    entry = Entry("x", NETWORK | options)
    build_restorer(entry, tmp_path / "w.pth")
    assert describe_changed_options(entry, tmp_path / "w.pth") == said


def test_published_weights_of_spandrels_nafnet_load_by_key(tmp_path):
    """The example of docs/benchmark.md: files of NAFNet have no ``network.`` before their names."""
    nafnet_arch = pytest.importorskip("spandrel.architectures.NAFNet.__arch.NAFNet_arch")
    options = {"width": 4, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}
    torch.manual_seed(1)
    published = nafnet_arch.NAFNet(**options).state_dict()
    torch.save({"params": published}, tmp_path / "nafnet.pth")
    entry = Entry("x", {"type": "SpandrelNet", "architecture": "NAFNet", **options}, param_key="params")
    loaded = build_restorer(entry, tmp_path / "nafnet.pth").network.network.state_dict()
    assert loaded.keys() == published.keys()
    assert all(torch.equal(loaded[name], value) for name, value in published.items())
