import importlib.util
import subprocess
import sys

import basicsr  # noqa: F401  registers the plugin
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from macr_plugin.archs import spandrel_arch
from macr_plugin.archs.spandrel_arch import SpandrelNet
from macr_plugin.errors import InputError

spandrel = pytest.importorskip("spandrel")

NAFNET = {"width": 4, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}
SMALL = {
    "NAFNet": NAFNET,
    "FFTformer": {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1},
    "Uformer": {"embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9},
    "KBNet_s": {"width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]},
    "Restormer": {"dim": 8, "num_blocks": [1] * 4, "num_refinement_blocks": 1, "heads": [1] * 4},
    "MPRNet": {"n_feat": 8, "scale_unetfeats": 4, "scale_orsnetfeats": 4, "num_cab": 2},
}
NONCOMMERCIAL = pytest.mark.skipif(
    importlib.util.find_spec("spandrel_extra_arches") is None, reason="spandrel_extra_arches is not installed"
)
ARCHITECTURES = [
    pytest.param(name, marks=NONCOMMERCIAL) if name in spandrel_arch.NONCOMMERCIAL_ARCHITECTURES else name
    for name in SMALL
]


def spandrel_forward(net, picture):
    """What spandrel itself makes of the same weights."""
    descriptor = spandrel_arch._registry().load(net.network.state_dict())
    return descriptor(picture)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_restores_as_spandrel_does(name):
    torch.manual_seed(0)
    net = SpandrelNet(architecture=name, **SMALL[name]).eval()
    # A size that needs no padding, which spandrel does by reflection and we by replication.
    picture = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(net(picture).clamp(0, 1), spandrel_forward(net, picture))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_size_is_taken_and_every_network_learns(name):
    torch.manual_seed(0)
    net = SpandrelNet(architecture=name, **SMALL[name])
    picture = torch.rand(2, 3, 37, 50)
    restored = net(picture)
    assert restored.shape == picture.shape
    restored.square().mean().backward()
    # Some networks carry parameters that none of their own outputs depends on.
    expected = spandrel_arch._build(type(net.network), SMALL[name])
    output = expected(torch.rand(2, 3, 128, 128))
    (output if isinstance(output, torch.Tensor) else output[0]).square().mean().backward()
    assert without_gradient(net.network) == without_gradient(expected)
    assert len(without_gradient(net.network)) < len(list(net.parameters())) / 4


def without_gradient(net):
    return {key for key, parameter in net.named_parameters() if parameter.grad is None}


def test_padding_is_replicated():
    """FFTformer's multiple is 32: 33 rows become 64."""
    torch.manual_seed(0)
    net = SpandrelNet(architecture="FFTformer", **SMALL["FFTformer"]).eval()
    picture = torch.rand(1, 3, 33, 64)
    padded = torch.cat([picture, picture[..., -1:, :].expand(-1, -1, 31, -1)], dim=-2)
    with torch.no_grad():
        torch.testing.assert_close(net(picture), net.network(padded)[..., :33, :])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_checkpoint_names_its_own_options(tmp_path, suffix):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = SpandrelNet(architecture="NAFNet", **NAFNET).eval()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"params": net.network.state_dict()}, path)
    else:
        save_file(net.network.state_dict(), path)
    again = SpandrelNet(checkpoint=str(path)).eval()
    picture = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(again(picture), net(picture))
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_the_registry_knows_it():
    assert ARCH_REGISTRY.get("SpandrelNet") is SpandrelNet


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "takes either architecture, such as NAFNet, or checkpoint"),
        ({"architecture": "NAFNet", "checkpoint": "x.pth"}, "takes either"),
        ({"checkpoint": "x.pth", "width": 3}, "reads its options off the checkpoint: remove width"),
        ({"checkpoint": "nowhere.pth"}, "nowhere.pth is no file"),
        ({"architecture": "NAFnet"}, "spandrel has no NAFnet: did you mean NAFNet"),
        ({"architecture": "NAFNet", "widht": 3}, "network_g.widht: unknown option of NAFNet: did you mean width"),
        ({"architecture": "NAFNet", **NAFNET, "img_channel": 1}, "maps 1 to 1 channels at scale 1: choose options for"),
        ({"architecture": "LaMa"}, "fills masked parts"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(InputError, match=message):
        SpandrelNet(**options)


def test_unusable_checkpoints_are_named(tmp_path):
    strange, damaged = tmp_path / "strange.pth", tmp_path / "damaged.pth"
    torch.save({"layer.weight": torch.zeros(3)}, strange)
    damaged.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"strange.pth holds the weights of no network that spandrel knows"):
        SpandrelNet(checkpoint=str(strange))
    with pytest.raises(InputError, match=r"damaged.pth cannot be read"):
        SpandrelNet(checkpoint=str(damaged))


@pytest.mark.parametrize(
    ("missing", "architecture", "command"),
    [
        ("spandrel", "NAFNet", r"pip install spandrel"),
        ("spandrel_extra_arches", "Restormer", r"pip install spandrel_extra_arches; its licence"),
    ],
)
def test_a_missing_package_is_named_with_the_command(monkeypatch, missing, architecture, command):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == missing else find_spec(name, *rest)
    )
    with pytest.raises(InputError, match=command):
        SpandrelNet(architecture=architecture)


def test_importing_the_networks_does_not_import_spandrel():
    check = "import sys, macr_plugin.archs.spandrel_arch; sys.exit('spandrel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
