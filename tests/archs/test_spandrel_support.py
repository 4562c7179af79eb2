"""Programs on spandrel load our checkpoints as they load everybody's: the file alone tells the network."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.archs.spandrel_arch import SpandrelNet
from macr_plugin.errors import InputError
from macr_plugin.inference.trained_network import load_network
from macr_plugin.weights.checkpoint import load_weights

spandrel = pytest.importorskip("spandrel")

from macr_plugin.archs.spandrel_support import read_options  # noqa: E402

DEFAULTS = {
    "num_feat": 8,
    "num_blocks": 1,
    "num_scales": 3,
    "dilations": (2, 3, 4),
    "branch_channels": 2,
    "num_msrm": 1,
    "skip_connections": False,
    "global_skip": True,
    "fuse_inputs": "second",
    "block": "acrb",
}
#: Each option at other values, and those together whose weights have the same shapes.
CHANGES = [
    {},
    {"num_feat": 12, "num_blocks": 11},
    {"num_scales": 1, "num_msrm": 3},
    {"branch_channels": 5},
    {"dilations": (1,), "fuse_inputs": "all"},
    {"dilations": (1,), "fuse_inputs": "second"},
    {"dilations": (4, 3, 2, 1), "num_scales": 2},
    {"num_feat": 1, "block": "dcb"},
    {"num_feat": 1, "block": "rdb"},
    *({"block": block, "dilations": (1, 2)} for block in ("resblock", "dcb", "rdb")),
    *(
        {"skip_connections": skips, "global_skip": whole, "fuse_inputs": fused}
        for skips, whole, fused in itertools.product((False, True), (False, True), ("second", "all"))
    ),
]


def build(**changes):
    torch.manual_seed(0)
    return MACR(**DEFAULTS | changes).eval().requires_grad_(False)


def older(network):
    """A state dict from before options were saved in it."""
    return {name: value for name, value in network.state_dict().items() if name != "_extra_state"}


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_option_is_recovered_from_the_state_dict(changes):
    network = build(**changes)
    state = network.state_dict()
    assert read_options(state) == DEFAULTS | changes
    assert [one.architecture.id for one in spandrel.MAIN_REGISTRY if one.detect(state)] == ["MACR"]
    descriptor = spandrel.ModelLoader().load_from_state_dict(state)
    assert type(descriptor.model) is MACR
    picture = torch.rand(1, 3, 21, 34)
    assert torch.equal(descriptor(picture), network(picture).clamp(0, 1))
    assert descriptor(picture[..., :3, :5]).shape == (1, 3, 3, 5)


def test_files_of_all_kinds(tmp_path):
    network = build(num_scales=2, skip_connections=True)
    state = network.state_dict()
    torch.save({"params": state, "network_g": {"type": "MACR"}}, tmp_path / "ours.pth")
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "parallel.pth")
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "half.safetensors")
    picture = torch.rand(1, 3, 16, 16)
    for file in tmp_path.iterdir():
        descriptor = spandrel.ModelLoader().load_from_file(file)
        torch.testing.assert_close(descriptor(picture), network(picture).clamp(0, 1), rtol=0, atol=5e-3)
        assert (descriptor.scale, descriptor.purpose, descriptor.size_requirements.minimum) == (1, "Restoration", 8)
        assert torch.equal(SpandrelNet(checkpoint=str(file)).network(picture), descriptor.model(picture))


def test_what_stock_basicsr_saves_is_recognised(tmp_path):
    model = BaseModel({"num_gpu": 0, "is_train": False, "dist": False, "path": {"models": str(tmp_path)}})
    network = build(fuse_inputs="all", num_scales=1)
    BaseModel.save_network(model, network, "net_g", 7)
    assert spandrel.ModelLoader().load_from_file(tmp_path / "net_g_7.pth").model.num_scales == 1


def test_other_networks_are_not_taken_for_it():
    nafnet = SpandrelNet("NAFNet", width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1]).network.state_dict()
    state = build().state_dict()
    wider = {**state, "conv1.weight": torch.zeros(8, 3, 3, 3)}
    blockless = {name: value for name, value in state.items() if not name.startswith("blocks.")}
    for other in (nafnet, wider, blockless, {"conv1.weight": 3}):
        assert not spandrel.MAIN_REGISTRY["MACR"].detect(other)


def test_older_files_are_refused_with_the_remedy_and_load_elsewhere(tmp_path):
    trained = build()
    torch.save({"params": older(trained)}, tmp_path / "old.pth")
    with pytest.raises(
        InputError, match=r"^these weights of a MACR are from before .*: save them once more by"
    ) as refused:
        spandrel.ModelLoader().load_from_file(tmp_path / "old.pth")
    assert "\n" not in str(refused.value)
    for load in (
        lambda network: network.load_state_dict(older(trained), strict=True),
        lambda network: load_weights(network, tmp_path / "old.pth"),
        lambda network: BaseModel({"num_gpu": 0, "is_train": False}).load_network(network, str(tmp_path / "old.pth")),
        lambda network: torch.nn.Sequential(network).load_state_dict({f"0.{k}": v for k, v in older(trained).items()}),
    ):
        network = build(skip_connections=True)
        torch.nn.init.zeros_(network.conv1.weight)
        load(network)
        assert torch.equal(network.conv1.weight, trained.conv1.weight)
        assert read_options(network.state_dict())["skip_connections"]


@pytest.mark.slow
def test_the_remedy_saves_all_that_a_program_needs(tmp_path, monkeypatch):
    """As the message says it, beside the option file that BasicSR has left."""
    options = {**DEFAULTS, "num_scales": 2, "fuse_inputs": "all", "dilations": [1, 2]}
    trained = build(**options)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    torch.save({"params": older(trained)}, "OLD.pth")
    Path("OLD.yml").write_text(yaml.safe_dump({"network_g": {"type": "MACR", **options}}))
    with pytest.raises(InputError) as refused:
        spandrel.ModelLoader().load_from_file("OLD.pth")
    code = re.search(r'python -c "(.*)"$', str(refused.value))[1]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    (tmp_path / "run/NEW.pth").rename(tmp_path / "new.pth")
    picture = torch.rand(1, 3, 24, 24)
    expected = trained(picture)
    assert torch.equal(spandrel.ModelLoader().load_from_file(tmp_path / "new.pth").model(picture), expected)
    assert torch.equal(load_network(tmp_path / "new.pth")(picture), expected)


def test_other_keys_still_do_not_fit():
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"more\""):
        build().load_state_dict({**older(build()), "more": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"conv1.weight\""):
        build().load_state_dict({name: value for name, value in older(build()).items() if name != "conv1.weight"})


def test_nothing_is_added_that_data_parallel_training_would_broadcast():
    assert not list(build().buffers())


@pytest.mark.parametrize("first", ["macr_plugin.archs.spandrel_support", "spandrel"])
def test_macr_is_known_whatever_is_imported_first(first):
    code = f"import macr_plugin, {first}, spandrel; print([one.architecture.id for one in spandrel.MAIN_REGISTRY])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'MACR'" in result.stdout
    assert "could not extend spandrel" not in result.stderr
