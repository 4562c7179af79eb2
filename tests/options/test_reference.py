"""The page of all options, the schemas for editors, and the descriptions that they come from."""

import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from macr_plugin.options.blocks import RUNS
from macr_plugin.options.datasets import DATASETS

REPOSITORY = Path(__file__).parents[2]
FILES = sorted((REPOSITORY / "options").rglob("*.yml"))
sys.path.insert(0, str(REPOSITORY / "scripts"))
import write_options  # noqa: E402

CONTENTS = write_options.contents()


@pytest.mark.parametrize("path", CONTENTS, ids=lambda path: path.name)
def test_what_is_written_is_current(path):
    assert path.read_text() == CONTENTS[path], "run make options"


def schema_for(content):
    name = "options" if "model_type" in content else "benchmark"
    return json.loads((REPOSITORY / "docs" / f"{name}.schema.json").read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_fit_the_schemas_of_editors(path):
    content = yaml.safe_load(path.read_text())
    jsonschema.Draft202012Validator(schema_for(content)).validate(content)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("macr_gopro", "train.total_iter", 0),
        ("macr_gopro", "train.ema_deacy", 0.5),
        ("macr_gopro", "datasets.train.gt_size", "large"),
        ("macr_gopro", "datasets.train.gtsize", 256),
        ("macr_gopro", "logger.use_tb_logger", "yes please"),
        ("benchmark_demo", "cost.warm_up", "many"),
        ("benchmark_demo", "cost.devices", ["gpu"]),
    ],
)
def test_the_schemas_refuse_what_the_check_refuses(name, key, value):
    content = yaml.safe_load((REPOSITORY / "options" / f"{name}.yml").read_text())
    *blocks, last = key.split(".")
    block = content
    for part in blocks:
        block = block[part]
    block[last] = value
    assert not jsonschema.Draft202012Validator(schema_for(content)).is_valid(content)


def test_every_key_has_a_meaning():
    for kind in (*RUNS.values(), *DATASETS.values()):
        for key, field in kind.model_fields.items():
            assert field.description, key
    page = (REPOSITORY / "docs" / "options.md").read_text()
    rows = re.findall(r"^\| `\w+` \|.*\| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 150
    assert all(meaning.strip() for meaning in rows)


def keys_of(block):
    for key, value in block.items():
        yield key
        if isinstance(value, dict):
            yield from keys_of(value)


def test_every_key_of_a_shipped_file_is_on_the_page():
    """All but the arguments of optimizers, schedules, metrics and networks of others, which belong to their classes."""
    page = (REPOSITORY / "docs" / "options.md").read_text()
    content = yaml.safe_load((REPOSITORY / "options" / "macr_gopro.yml").read_text())
    described = {key: value for key, value in content.items() if key not in ("train", "val")}
    for key in keys_of({**described, "train": dict.fromkeys(content["train"]), "val": dict.fromkeys(content["val"])}):
        assert key in ("train", "val", "type", "network_g") or f"| `{key}` |" in page, key
