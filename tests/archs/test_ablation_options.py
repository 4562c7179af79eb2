"""The option files of the paper's ablations: each changes what it is named after and nothing else."""

from pathlib import Path

import pytest
import yaml
from cost import cost_of

from macr_plugin.archs import MACR

OPTIONS = Path(__file__).parents[2] / "options"
ABLATIONS = sorted((OPTIONS / "ablation").glob("*.yml"))
ABSENT = {"network_g.dilations": None, "network_g.fuse_inputs": None}
ONE_SCALE = {"network_g.num_scales": 1, "train.scale_weights": [1]}
#: What differs from macr_gopro.yml, besides the name; None where a key is left out.
DIFFERENCES = {
    "table5_1_scale": ONE_SCALE,
    "table5_2_scales": {"network_g.num_scales": 2, "train.scale_weights": [1, 1]},
    "table5_3_scales": {},
    "table6_acrb": ONE_SCALE,
    "table6_resblock": ONE_SCALE | ABSENT | {"network_g.block": "resblock"},
    "table6_dcb": ONE_SCALE | ABSENT | {"network_g.block": "dcb"},
    "table6_rdb": ONE_SCALE | ABSENT | {"network_g.block": "rdb"},
    "table6_resblock_equal_macs": ONE_SCALE | ABSENT | {"network_g.block": "resblock", "network_g.num_blocks": 50},
    "table6_dcb_equal_macs": ONE_SCALE | ABSENT | {"network_g.block": "dcb", "network_g.num_blocks": 24},
    "table6_rdb_equal_macs": ONE_SCALE | ABSENT | {"network_g.block": "rdb", "network_g.num_blocks": 3},
    "supervision_finest_only": {"train.scale_weights": [1, 0, 0]},
}


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


def test_every_cell_has_its_file():
    assert {path.stem for path in ABLATIONS} == DIFFERENCES.keys()


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_nothing_else_differs_from_the_faithful_options(path):
    faithful, ablation = read(OPTIONS / "macr_gopro.yml"), read(path)
    differences = {
        key: ablation.get(key) for key in faithful.keys() | ablation.keys() if faithful.get(key) != ablation.get(key)
    }
    assert differences == {"name": path.stem} | DIFFERENCES[path.stem]


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
