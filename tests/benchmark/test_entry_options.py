"""Mistakes in a benchmark's option file are named, with the right key."""

import re
from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import pytest
import yaml

from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.options import file_name, read_benchmark
from macr_plugin.benchmark.results import Published
from macr_plugin.cli import main
from macr_plugin.errors import InputError, InputErrors

OPTIONS = Path(__file__).parents[2] / "options"
TRAIN = {
    "optim_g": {"type": "Adam", "lr": 1e-4},
    "scheduler": {"type": "MultiStepLR", "milestones": []},
    "pixel_opt": {"type": "L1Loss"},
}
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


def problems_of(path):
    """The lines of a file's mistakes, without the place in the file, which each must have."""
    with pytest.raises(InputErrors) as caught:
        read_benchmark(path)
    matches = [re.fullmatch(rf"{re.escape(str(path))}:\d+:\d+: (.*)", line) for line in caught.value.lines]
    return [match[1] for match in matches]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "x"}, "entries[0].network: is missing: an entry has a network, or published figures"),
        ({**MACR, "wieghts": "x"}, "entries[0].wieghts: unknown key 'wieghts': did you mean weights?"),
        ({"network": MACR["network"]}, "entries[0].label: is missing"),
        ({**MACR, "label": ""}, "entries[0].label: is '': it must be text"),
        ({**MACR, "label": 3}, "entries[0].label: is 3: it must be text"),
        ({"label": "x", "network": {"type": "MARC"}}, "entries[0].network.type: unknown network 'MARC': did you mean"),
        ({"label": "x", "network": "MACR"}, "entries[0].network: is 'MACR': it must be keys and values below it"),
        ({**MACR, "network": {"type": "MACR", "num_feats": 1}}, "entries[0].network.num_feats: unknown option of MACR"),
        ({**MACR, "network": {"type": "MACR", "num_feat": "1e2"}}, "entries[0].network.num_feat: YAML reads 1e2 as"),
        ({**MACR, "weights": 3}, "entries[0].weights: is 3: it must be text"),
        ({**MACR, "precision": "fp8"}, "entries[0].precision: is 'fp8': it must be one of 'fp32', 'tf32', 'bf16' or"),
        ({**MACR, "tile": {"sise": 3}}, "entries[0].tile.sise: unknown key 'sise': did you mean size?"),
        ({**MACR, "tile": 3}, "entries[0].tile: is 3: it must be keys and values below it"),
        ({**MACR, "tile": {"size": "64"}}, "entries[0].tile.size: YAML reads 64 as text"),
        ({**MACR, "tile": {"size": 0}}, "entries[0].tile.size: is 0: it must be greater than or equal to 1"),
        ({**MACR, "tile": {"size": 64, "overlap": 64}}, "entries[0].tile: is {'overlap': 64, 'size': 64}: it must be"),
        ({**MACR, "tlc": "no"}, "entries[0].tlc: is 'no': it must be true or false"),
        ({**MACR, "size_multiple": 0}, "entries[0].size_multiple: is 0"),
        ({**MACR, "published": {"psnr": 1.0}}, "entries[0].published.source: is missing"),
        ({**MACR, "published": {"psnr": "high", "source": "x"}}, "entries[0].published.psnr: is 'high': it must be a"),
        ({**MACR, "model_type": "Deblur"}, "entries[0].model_type: unknown model 'Deblur'"),
        ({**MACR, "train": {"optim": {}}}, "entries[0].train.optim: unknown key 'optim'"),
        ({**MACR, "train": {"optim_g": {"lr": -1}}}, "entries[0].train.optim_g.lr: is -1: it must be 0 or more"),
        ({**MACR, "train": 3}, "entries[0].train: is 3: it must be keys and values below it"),
        ({**MACR, "datasets": {"val": {}}}, "entries[0].datasets.val: unknown key 'val': known are train"),
        ({**MACR, "datasets": {"train": {"gt_size": 0}}}, "entries[0].datasets.train.gt_size: is 0"),
        (
            {**MACR, "datasets": {"train": {"gt_size": 2}}},
            "entries[0].datasets.train.gt_size: is 2: MACR with 3 scales",
        ),
        ("MACR", "entries[0]: is 'MACR': it must be keys and values below it"),
    ],
)
def test_mistakes_in_an_entry_are_named(write_options, entry, message):
    assert [line for line in problems_of(write_options([entry])) if line.startswith(message)]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"protocl": {}}, "protocl: unknown key 'protocl': did you mean protocol?"),
        ({"title": ["x"]}, "title: is ['x']: it must be text"),
        ({"comparison_frames": -1}, "comparison_frames: is -1"),
        ({"protocol": {"crop_edge": 1}}, "protocol.crop_edge: unknown key 'crop_edge': did you mean crop_border?"),
        ({"protocol": {"crop_border": -1}}, "protocol.crop_border: is -1"),
        ({"protocol": {"rounding": "int"}}, "protocol.rounding: is 'int': it must be one of 'uint8' or 'float'"),
        ({"protocol": {"rounding": "float", "test_y_channel": True}}, "protocol.test_y_channel: is defined on rounded"),
        ({"protocol": []}, "protocol: is []: it must be keys and values below it"),
        ({"cost": {"modes": ["graph"]}}, "cost.modes[0]: is 'graph': it must be one of 'eager', 'compiled', 'cuda"),
        ({"cost": {"devices": ["gpu"]}}, "cost.devices[0]: is 'gpu'"),
        ({"cost": {"devices": []}}, "cost.devices: is []"),
        ({"cost": {"devices": "cpu"}}, "cost.devices: is 'cpu': it must be a list"),
        ({"cost": {"sizes": [256]}}, "cost.sizes[0]: is 256: it must be a list"),
        ({"cost": {"sizes": [["a", "b"]]}}, "cost.sizes[0][0]: is 'a': it must be a whole number"),
        ({"cost": {"sizes": [[8, 8, 8]]}}, "cost.sizes[0]: is [8, 8, 8]: it must be [height, width]"),
        ({"cost": {"sizes": [[8]]}}, "cost.sizes[0]: is [8]: it must be [height, width]"),
        ({"cost": {"sizes": [[8, 0]]}}, "cost.sizes[0][1]: is 0: it must be greater than or equal to 1"),
        ({"cost": {"runs": 0}}, "cost.runs: is 0: it must be greater than or equal to 1"),
        ({"cost": {"runs": True}}, "cost.runs: is True: it must be a whole number"),
        ({"cost": {"warm_up": "many"}}, "cost.warm_up: is 'many': it must be a whole number"),
        ({"cost": {"channels_last": "yes please"}}, "cost.channels_last: is 'yes please': it must be true or false"),
        ({"cost": {"batch": 1.5}}, "cost.batch: is 1.5: it must be a whole number"),
        ({"dataset": {"dataroots": "x"}}, "dataset.dataroots: unknown key 'dataroots': did you mean dataroot?"),
        ({"dataset": {"num_worker_per_gpu": "2"}}, "dataset.num_worker_per_gpu: YAML reads 2 as text"),
        ({"dataset": {"type": "PairedImageDataset"}}, "dataset.type: is 'PairedImageDataset': quality is measured on"),
        ({"training": {"datasets": {}}}, "training.train: is missing"),
        ({"training": {"datasets": {"val": {}}, "train": {}}}, "training.datasets.val: unknown key 'val'"),
        ({"training": {"datasets": {}, "train": TRAIN}}, "training.datasets.train.gt_size: is missing"),
        ({"training": {"datasets": {}, "train": {}}}, "training.train.optim_g: is missing"),
        (
            {"training": {"datasets": {"train": {"gtsize": 3}}, "train": {}}},
            "training.datasets.train.gtsize: unknown key 'gtsize': did you mean gt_size?",
        ),
        (
            {"training": {"datasets": {"train": {}}, "train": {"ema_deacy": 0.9}}},
            "training.train.ema_deacy: unknown key 'ema_deacy': did you mean ema_decay?",
        ),
        ({"entries": "MACR"}, "entries: is 'MACR': it must be a list"),
        ({"entries": [MACR, MACR]}, "entries[1].label: is 'MACR', which is there twice"),
    ],
)
def test_mistakes_in_a_block_are_named(write_options, blocks, message):
    lines = problems_of(write_options(**{"entries": [MACR], **blocks}))
    assert [line for line in lines if line.startswith(message)], lines


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", "", 3])
def test_the_name_is_that_of_one_folder(write_options, name):
    path = write_options([MACR])
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "name": name}))
    assert problems_of(path)[0].startswith(f"name: is {name!r}: it must be ")


def test_all_mistakes_are_named_at_once_where_they_stand(tmp_path, monkeypatch, capsys):
    """The command ends with status 2, before it makes a folder."""
    monkeypatch.chdir(tmp_path)
    Path("broken.yml").write_text(
        "cost:\n  warm_up: many\n  runs: true\n  channels_last: yes please\n  sizes: [[a, b]]\n"
        "entries:\n- label: x\n  network: {type: MACR}\n  tlc: maybe\ntitle: a\ntitle: b\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "-opt", "broken.yml"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "macr: error: broken.yml:11:1: title: is there twice, first in line 10, and YAML takes the last: remove one",
        "macr: error: broken.yml:2:3: cost.warm_up: is 'many': it must be a whole number",
        "macr: error: broken.yml:3:3: cost.runs: is True: it must be a whole number",
        "macr: error: broken.yml:4:3: cost.channels_last: is 'yes please': it must be true or false",
        "macr: error: broken.yml:5:12: cost.sizes[0][0]: is 'a': it must be a whole number",
        "macr: error: broken.yml:5:15: cost.sizes[0][1]: is 'b': it must be a whole number",
        "macr: error: broken.yml:9:3: entries[0].tlc: is 'maybe': it must be true or false",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yml"]


def test_the_shared_training_is_checked_once(write_options):
    """A mistake that every entry inherits is one line; what an entry changes is named there."""
    entries = [MACR, {**MACR, "label": "y"}, {**MACR, "label": "z", "train": {"pixel_opt": {"type": "L1Los"}}}]
    training = {
        "datasets": {"train": {"dataroot": "pairs", "gt_size": 8, "batch_size_per_gpu": 1, "num_worker_per_gpu": 0}},
        "train": {**TRAIN, "optim_g": {"type": "Adamm"}},
    }
    assert problems_of(write_options(entries, training=training)) == [
        "entries[2].train.pixel_opt.type: unknown loss 'L1Los': did you mean L1Loss?",
        "training.train.optim_g.type: unknown optimizer 'Adamm': did you mean Adam?",
    ]


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.yml: No such file"):
        read_benchmark(tmp_path / "nowhere.yml")
    broken = tmp_path / "broken.yml"
    broken.write_text("entries: [")
    with pytest.raises(InputError, match=r"broken.yml:1:\d+: is not plain YAML"):
        read_benchmark(broken)
    broken.write_text("entries: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match=r"broken.yml:1:\d+: is not plain YAML"):
        read_benchmark(broken)


@pytest.mark.parametrize(
    ("label", "name"), [("NAFNet-32, tiles", "NAFNet-32_tiles"), ("../x", "x"), ("模糊", "entry"), ("a.b", "a.b")]
)
def test_labels_become_file_names(label, name):
    assert file_name(label) == name
