"""The option files of the paper's ablations: each changes what it is named after and nothing else."""

import sys
from pathlib import Path

import pytest
import yaml
from cost import cost_of

from macr_plugin.archs import MACR

OPTIONS = Path(__file__).parents[2] / "options"
ABLATIONS = sorted((OPTIONS / "ablation").glob("*.yml"))
sys.path.insert(0, str(OPTIONS.parent / "scripts"))
import write_ablations  # noqa: E402

CONTENTS = write_ablations.contents()


def flattened(block, prefix=""):
    """Every key with its path in front."""
    for key, value in block.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read(path):
    return dict(flattened(yaml.safe_load(path.read_text())))


def network(path, **changes):
    """A function that builds the network of an option file."""
    options = yaml.safe_load(path.read_text())["network_g"] | changes
    assert options.pop("type") == "MACR"
    return lambda: MACR(**options)


def test_the_files_are_those_that_make_options_writes():
    assert set(ABLATIONS) == CONTENTS.keys()
    for path, text in CONTENTS.items():
        assert path.read_text() == text, "run make options"


def test_a_change_of_a_key_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match=r"macr_gopro\.yml has no key network_g\.num_feats"):
        write_ablations.ablation("x", ["a", "b"], {"network_g.num_feats": "8"})


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_nothing_else_differs_from_the_faithful_options(path):
    faithful, ablation = read(OPTIONS / "macr_gopro.yml"), read(path)
    changed = {key for key in faithful.keys() | ablation.keys() if faithful.get(key) != ablation.get(key)}
    stated = yaml.safe_load((OPTIONS.parent / "scripts" / "ablations.yml").read_text())[path.stem]["changes"]
    assert {"name"} <= changed <= {"name", *stated}
    assert ablation["name"] == path.stem


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_scale_has_a_weight(path):
    options = read(path)
    assert len(options["train.scale_weights"]) == options["network_g.num_scales"]


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_stated_cost_is_the_cost(path):
    parameters, multiply_accumulates = cost_of(network(path))
    stated = f"# {parameters:,} parameters, {multiply_accumulates / 1e9:.1f} G multiply-accumulates at 256x256."
    assert stated in path.read_text()


@pytest.mark.parametrize("path", [path for path in ABLATIONS if "equal_macs" in path.stem], ids=lambda path: path.stem)
def test_equal_cost_is_as_near_as_whole_blocks_come(path):
    target = cost_of(network(OPTIONS / "ablation" / "table6_acrb.yml"))[1]
    num_blocks = read(path)["network_g.num_blocks"]
    distances = {
        number: abs(cost_of(network(path, num_blocks=number))[1] - target)
        for number in (num_blocks - 1, num_blocks, num_blocks + 1)
    }
    assert min(distances, key=distances.get) == num_blocks
