"""Mistakes in a benchmark's option file are named, with the right key."""

from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import pytest
import yaml

from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.options import file_name, read_benchmark
from macr_plugin.benchmark.results import Published
from macr_plugin.errors import InputError

OPTIONS = Path(__file__).parents[2] / "options"
MACR = {"label": "MACR", "network": {"type": "MACR", "num_feat": 8}}


@pytest.mark.parametrize("path", sorted(OPTIONS.glob("benchmark_*.yml")), ids=lambda path: path.name)
def test_shipped_files_are_read_and_say_what_every_key_means(path):
    benchmark = read_benchmark(path)
    assert benchmark.name == path.stem
    assert benchmark.training is not None
    for line in path.read_text().splitlines():
        key, _, rest = line.strip().removeprefix("- ").partition(":")
        if rest.strip() and not line.startswith("#") and key != "label":
            assert "  # " in line, f"{line} has no comment"


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (4, [("Sun et al. 2015", 24.64, 0.8429), ("DeepDeblur", 29.08, 0.9135), ("SRN", 30.26, 0.9342)]),
        (5, [("1 scale", 30.7145, 0.9216), ("2 scales", 31.5574, 0.9332), ("3 scales", 32.3136, 0.9425)]),
        (6, [("Res-block", 28.4751, 0.8761), ("DCB", 28.2878, 0.8693), ("RDB", 28.373, 0.8752)]),
    ],
)
def test_the_tables_quote_the_paper(table, rows):
    entries = {
        entry.label: entry.published for entry in read_benchmark(OPTIONS / f"benchmark_table{table}.yml").entries
    }
    for label, psnr, ssim in rows:
        assert entries[label] == Published(psnr, ssim, f"MACR paper, Table {table}")


def test_the_tables_train_as_the_paper_states():
    """Their shared training is that of macr_gopro.yml but for its length."""
    paper = yaml.safe_load((OPTIONS / "macr_gopro.yml").read_text())
    for table in (4, 5, 6):
        training = read_benchmark(OPTIONS / f"benchmark_table{table}.yml").training
        for key, value in training.train.items():
            assert paper["train"][key] == value, key
        for key, value in training.datasets["train"].items():
            assert paper["datasets"]["train"][key] == value, key


def test_blocks_become_records(write_options):
    entry = {**MACR, "tile": {"size": 64}, "published": {"psnr": 30.0, "source": "a paper"}}
    benchmark = read_benchmark(write_options([entry]))
    assert (benchmark.name, benchmark.title) == ("bench", "bench")
    assert benchmark.entries[0].tile == Tile(64, 32)
    assert benchmark.entries[0].published == Published(30.0, None, "a paper")
    assert benchmark.cost.sizes == ((32, 48),)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "x"}, r"entries\[0\].network is missing: an entry has a network, or published figures"),
        ({**MACR, "wieghts": "x"}, r"entries\[0\].wieghts: unknown key 'wieghts': did you mean weights\?"),
        ({"network": MACR["network"]}, r"entries\[0\].label is missing"),
        ({"label": "", "network": MACR["network"]}, "the label '' is no text"),
        (
            {"label": "x", "network": {"type": "MARC"}},
            r"entries\[0\].network.type: unknown network 'MARC': did you mean",
        ),
        (
            {"label": "x", "network": {"type": "MACR", "num_feats": 1}},
            r"entries\[0\].network.num_feats: unknown option",
        ),
        ({**MACR, "precision": "fp8"}, r"entries\[0\].precision is 'fp8': choose fp32, tf32, bf16 or fp16"),
        ({**MACR, "tile": {"sise": 3}}, r"entries\[0\].tile.sise: unknown key 'sise': did you mean size\?"),
        ({**MACR, "tile": 3}, r"entries\[0\].tile is 3: write keys and values below it"),
        ({**MACR, "published": {"psnr": 1.0}}, r"entries\[0\].published.source is missing"),
        ({**MACR, "train": {"optim": {}}}, r"entries\[0\].train.optim: unknown key 'optim'"),
        ("MACR", r"entries\[0\] is 'MACR': write keys"),
    ],
)
def test_mistakes_in_an_entry_are_named(write_options, entry, message):
    with pytest.raises(InputError, match=message):
        read_benchmark(write_options([entry]))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"protocl": {}}, "protocl: unknown key 'protocl': did you mean protocol?"),
        ({"protocol": {"crop_edge": 1}}, "protocol.crop_edge: unknown key 'crop_edge': did you mean crop_border?"),
        ({"protocol": {"rounding": "int"}}, "protocol.rounding is 'int': choose uint8 or float"),
        ({"protocol": {"rounding": "float", "test_y_channel": True}}, "protocol.test_y_channel is defined on rounded"),
        ({"cost": {"modes": ["graph"]}}, "cost.modes is 'graph': choose eager, compiled or cuda_graph"),
        ({"cost": {"devices": ["gpu"]}}, "cost.devices is 'gpu'"),
        ({"cost": {"sizes": [256]}}, "cost.sizes: write each size as [height, width]"),
        ({"cost": {"runs": 0}}, "cost.runs is 0: use a whole number from 1 up"),
        ({"dataset": {"dataroots": "x"}}, "dataset.dataroots: unknown key 'dataroots': did you mean dataroot?"),
        ({"dataset": {"type": "PairedImageDataset"}}, "dataset.type is PairedImageDataset: quality is measured on"),
        ({"training": {"datasets": {}}}, "training.train is missing"),
        ({"training": {"datasets": {"val": {}}, "train": {}}}, "training.datasets.val: unknown key 'val'"),
        ({"training": {"datasets": {}, "train": {}}}, "training.datasets.train is None: write keys"),
        (
            {"training": {"datasets": {"train": {"gtsize": 3}}, "train": {}}},
            "training.datasets.train.gtsize: unknown key 'gtsize': did you mean gt_size?",
        ),
        (
            {"training": {"datasets": {"train": {}}, "train": {"ema_deacy": 0.9}}},
            "training.train.ema_deacy: unknown key 'ema_deacy': did you mean ema_decay?",
        ),
        ({"training": {"datasets": {"train": {}}, "train": {}}}, "training.datasets.train.gt_size is missing"),
        ({"entries": []}, "has no entries"),
        ({"entries": [MACR, MACR]}, "the label 'MACR' is there twice"),
    ],
)
def test_mistakes_in_a_block_are_named(write_options, blocks, message):
    with pytest.raises(InputError) as caught:
        read_benchmark(write_options(**{"entries": [MACR], **blocks}))
    assert message in str(caught.value)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.yml: No such file"):
        read_benchmark(tmp_path / "nowhere.yml")
    broken = tmp_path / "broken.yml"
    broken.write_text("entries: [")
    with pytest.raises(InputError, match=r"broken.yml is not plain YAML"):
        read_benchmark(broken)
    broken.write_text("entries: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match=r"broken.yml is not plain YAML"):
        read_benchmark(broken)


@pytest.mark.parametrize(
    ("label", "name"), [("NAFNet-32, tiles", "NAFNet-32_tiles"), ("../x", "x"), ("模糊", "entry"), ("a.b", "a.b")]
)
def test_labels_become_file_names(label, name):
    assert file_name(label) == name
