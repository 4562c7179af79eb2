"""Whole benchmarks, on data of a few frames."""

import json
import re
from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.archs.sun_arch import SunMotionNet
from macr_plugin.benchmark import runner
from macr_plugin.benchmark.options import read_benchmark
from macr_plugin.benchmark.results import EntryResult, Latency, Published, Quality, Results, Training, read_json
from macr_plugin.benchmark.runner import BenchmarkRun, benchmark, compare_with_first, warn_of_spread
from macr_plugin.cli import main
from macr_plugin.errors import InputError
from macr_plugin.inference.deblurrer import Deblurrer
from macr_plugin.weights.shipped import read_card

ROOT = Path(__file__).parents[2]
SMALL = {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2}


@pytest.fixture
def weights(working_folder):
    """Two sets of weights of the small MACR."""
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        paths.append(str(working_folder / f"weights{seed}.pth"))
        torch.save({"params": MACR(num_feat=8, num_blocks=1, branch_channels=2).state_dict()}, paths[-1])
    return paths


def entries(weights):
    return [
        {"label": f"MACR {number}", "network": SMALL, "weights": path} for number, path in enumerate(weights, start=1)
    ]


def measure(path, out="out", **settings):
    return BenchmarkRun(read_benchmark(path), Path(out), **settings).measure()


def restored_by_hand(path, scene, number):
    net = MACR(num_feat=8, num_blocks=1, branch_channels=2)
    net.load_state_dict(torch.load(path, weights_only=True)["params"])
    blurred = cv2.imread(f"pairs/{scene}/blur/{number}.png")[..., ::-1].transpose(2, 0, 1).copy()
    with torch.no_grad():
        return tensor2img([net(torch.from_numpy(blurred)[None] / 255)])


def test_quality_cost_and_pictures(write_options, weights):
    results = measure(write_options(entries(weights)))
    first, second = results.entries
    sharp = {number: cv2.imread(f"pairs/scene{number // 2}/sharp/{number:06d}.png") for number in range(4)}
    for entry, path in ((first, weights[0]), (second, weights[1])):
        assert entry.error is None
        assert entry.parameters == sum(value.numel() for value in MACR(8, 1, branch_channels=2).parameters())
        expected = [
            calculate_psnr(restored_by_hand(path, f"scene{number // 2}", f"{number:06d}"), sharp[number], 0)
            for number in range(4)
        ]
        assert [frame.psnr for frame in entry.quality.frames] == pytest.approx(expected, abs=1e-3)
        assert entry.quality.psnr.mean == pytest.approx(np.mean(expected), abs=1e-3)
        assert entry.quality.protocol_id == "blur/full/uint8/rgb/mean"
        (latency,) = entry.latencies
        assert latency.median_ms > 0
        (complexity,) = entry.complexity
        assert (complexity.height, complexity.width) == (32, 48)
    assert first.quality.versus_first is None
    difference = second.quality.versus_first
    assert difference.psnr.mean == pytest.approx(second.quality.psnr.mean - first.quality.psnr.mean)
    assert difference.wins + difference.losses + difference.ties == 4

    (blurred,) = results.blurred_quality
    pairs = ((cv2.imread(f"pairs/scene{number // 2}/blur/{number:06d}.png"), sharp[number]) for number in range(4))
    assert blurred.psnr.mean == pytest.approx(np.mean([calculate_psnr(*pair, 0) for pair in pairs]), abs=1e-4)

    assert [picture.key for picture in results.pictures] == ["scene0/000000", "scene1/000002"]
    picture = results.pictures[1]
    assert list(picture.restored) == ["MACR 1", "MACR 2"]
    assert np.array_equal(cv2.imread(f"out/{picture.sharp}"), sharp[2])
    restored = cv2.imread(f"out/{picture.restored['MACR 2']}")
    assert np.array_equal(restored, restored_by_hand(weights[1], "scene1", "000002"))
    assert set(results.environment) >= {"torch", "basicsr", "device", "memory layout", "freed main memory"}


def test_what_a_network_shows_beside_goes_into_the_report(write_options, working_folder):
    """Any network may have ``extra_pictures``; here SunMotionNet, whose picture has another size than the frame."""
    torch.manual_seed(0)
    net = SunMotionNet(channels=[4, 4, 8])
    torch.save({"params": net.state_dict()}, "sun.pth")
    network = {"type": "SunMotionNet", "channels": [4, 4, 8]}
    out = benchmark(write_options([{"label": "Sun", "network": network, "weights": "sun.pth"}]), Path("out"))
    results = read_json(Results, out / "results.json")
    assert results.entries[0].error is None
    for frame in results.pictures:
        ((caption, path),) = frame.extra.items()
        assert caption == "Sun: motion field"
        blurred = cv2.imread(f"out/{frame.blurred}")[..., ::-1].transpose(2, 0, 1).copy()
        shown = net.extra_pictures(torch.from_numpy(blurred)[None] / 255)["motion field"]
        assert np.array_equal(cv2.imread(f"out/{path}"), tensor2img([shown]))
        assert f"]({path})" in (out / "report.md").read_text()
    page = (out / "report.html").read_text()
    assert page.count('alt="scene0/000000, Sun: motion field"') == 1
    assert page.count('<img src="data:image/webp;base64,') == 2


def test_shipped_weights_are_given_by_name(write_options, working_folder):
    network = read_card("macr-small")["network_g"]
    (entry,) = measure(write_options([{"label": "shipped", "network": network, "weights": "macr-small"}])).entries
    assert entry.error is None
    restorer = Deblurrer("macr-small", precision="fp32")
    expected = []
    for number in range(4):
        frame = f"pairs/scene{number // 2}/{{}}/{number:06d}.png"
        blurred, sharp = (cv2.imread(frame.format(kind)) for kind in ("blur", "sharp"))
        restored = restorer.restore(np.ascontiguousarray(blurred[..., ::-1]))[..., ::-1]
        expected.append(calculate_psnr(restored, sharp, 0))
    assert [frame.psnr for frame in entry.quality.frames] == pytest.approx(expected, abs=0.01)


def test_failing_entries_are_rows_and_the_rest_goes_on(write_options, weights, working_folder):
    torch.save(MACR(num_feat=12).state_dict(), "other.pth")
    (working_folder / "raises.py").write_text(
        "import torch\nfrom basicsr.utils.registry import ARCH_REGISTRY\n"
        "@ARCH_REGISTRY.register()\nclass RaisesInForward(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = torch.nn.Conv2d(3, 3, 1)\n"
        "    def forward(self, x):\n        if x.shape[-1] == 80:\n            raise MemoryError('too large')\n"
        "        return self.layer(x)\n"
        "@ARCH_REGISTRY.register()\nclass Unbuildable(torch.nn.Module):\n"
        "    def __init__(self):\n        raise TypeError('too many features')\n"
    )
    from macr_plugin.user_modules import import_files

    import_files([working_folder / "raises.py"])
    rows = [
        {"label": "missing", "network": SMALL, "weights": "nowhere.pth"},
        {"label": "other", "network": SMALL, "weights": "other.pth"},
        {"label": "unbuildable", "network": {"type": "Unbuildable"}},
        {"label": "raises", "network": {"type": "RaisesInForward"}, "weights": "included"},
        *entries(weights),
    ]
    results = measure(write_options(rows))
    missing, other, unbuildable, raises, first, second = results.entries
    assert missing.error.startswith("weights nowhere.pth: No such file: give an existing .pth")
    assert "other.pth do not fit MACR" in other.error
    assert unbuildable.error == "unbuildable: network Unbuildable: too many features"
    assert raises.error == "MemoryError: too large"
    assert missing.parameters == first.parameters, "what was measured before is kept"
    assert missing.latencies[0].median_ms > 0
    assert first.quality.versus_first is None
    assert second.quality.versus_first is not None
    assert list(results.pictures[0].restored) == ["MACR 1", "MACR 2"]


def test_published_figures_need_nothing_else(write_options):
    published = {"psnr": 24.64, "ssim": 0.8429, "source": "a paper"}
    path = write_options([{"label": "Sun", "published": published}], dataset=None, training=None)
    results = measure(path)
    assert results.entries == [EntryResult("Sun", published=Published(24.64, 0.8429, "a paper"))]
    assert results.blurred_quality == results.pictures == []


def test_without_weights_only_the_cost_is_measured(write_options):
    (entry,) = measure(write_options([{"label": "MACR", "network": SMALL}])).entries
    assert entry.quality is None
    assert entry.error is None
    assert entry.latencies[0].median_ms > 0


@pytest.fixture
def measured(monkeypatch):
    """Labels of the entries that are measured and not read from an earlier run."""
    labels = []
    original = BenchmarkRun._measure_entry

    def record(self, entry):
        labels.append(entry.label)
        return original(self, entry)

    monkeypatch.setattr(BenchmarkRun, "_measure_entry", record)
    return labels


def test_finished_entries_are_kept(write_options, weights, measured):
    rows = [*entries(weights), {"label": "missing", "network": SMALL, "weights": "nowhere.pth"}]
    first = measure(write_options(rows))
    measured.clear()
    again = measure(write_options(rows))
    assert measured == ["missing"], "a failed one is tried again"
    assert again.entries[:2] == first.entries[:2]
    assert again.blurred_quality == first.blurred_quality

    measured.clear()
    rows[0]["precision"] = "bf16"
    torch.save({"params": MACR(num_feat=8, num_blocks=1, branch_channels=2).state_dict()}, weights[1])
    measure(write_options(rows[:2]))
    assert measured == ["MACR 1", "MACR 2"], "other options and other weights are measured again"

    measured.clear()
    measure(write_options(rows[:2], protocol={"crop_border": 2}))
    assert measured == ["MACR 1", "MACR 2"], "and so is another protocol"


def test_a_killed_benchmark_goes_on(write_options, weights, measured, monkeypatch):
    path = write_options(entries(weights))
    original = runner.measure_latencies

    def killed_at_the_second(build, cost, devices):
        if measured[-1] == "MACR 2":
            raise KeyboardInterrupt
        return original(build, cost, devices)

    monkeypatch.setattr(runner, "measure_latencies", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        measure(path)
    monkeypatch.setattr(runner, "measure_latencies", original)
    measured.clear()
    results = measure(path)
    assert measured == ["MACR 2"]
    assert [entry.error for entry in results.entries] == [None, None]
    assert not list(Path("out").rglob("*.unfinished"))


def quality(protocol, psnr):
    from macr_plugin.benchmark.results import FrameQuality, Interval

    frames = [FrameQuality("a/1", {"psnr": psnr}), FrameQuality("b/1", {"psnr": psnr + 1})]
    return Quality(protocol, {"psnr": Interval(0, 0, 0)}, frames)


def test_differences_are_taken_within_a_protocol_to_its_first_entry():
    protocols = ["full", "tile", "full", "tile"]
    rows = [EntryResult(str(row), quality=quality(name, 20 + row)) for row, name in enumerate(protocols)]
    rows.insert(0, EntryResult("failed", error="x"))
    compare_with_first(rows)
    differences = [row.quality.versus_first for row in rows[1:]]
    assert differences[:2] == [None, None]
    for difference in differences[2:]:
        assert (difference.psnr.mean, difference.psnr.low, difference.psnr.high) == (2, 2, 2)
        assert (difference.wins, difference.losses, difference.ties) == (2, 0, 0)


def test_trainings_are_compared_with_the_first_one():
    rows = [
        EntryResult(str(row), training=Training(10, 1.0, 2, [0, 1], psnr))
        for row, psnr in enumerate([[30.0, 30.2], [30.1, 30.5], [29.0, 29.5]])
    ]
    compare_with_first(rows)
    assert [row.training.verdict for row in rows] == [None, "not separated", "lower"]


def test_mistakes_stop_before_anything_is_measured(write_options, measured):
    with pytest.raises(InputError, match="--train-iters and --train-budget need the block training"):
        benchmark(write_options([{"label": "MACR", "network": SMALL}], training=None), train_iters=3)
    with pytest.raises(InputError, match="--train-iters 0 trains nothing"):
        benchmark(write_options([{"label": "MACR", "network": SMALL}]), train_iters=0)
    with pytest.raises(InputError, match=r"nowhere.py: there is no such Python file"):
        benchmark(write_options([{"label": "MACR", "network": SMALL}]), imports=[Path("nowhere.py")])
    rows = [{"label": "MACR", "network": SMALL, "train": {"pixel_opt": {"type": "L1Los"}}}]
    with pytest.raises(InputError, match=r"entries\[0\].train.pixel_opt.type: unknown loss 'L1Los'"):
        benchmark(write_options(rows), train_iters=3)
    rows[0].pop("train")
    with pytest.raises(InputError, match="pairs2 is not a folder"):
        benchmark(write_options(rows, dataset={"dataroot": "pairs2", "io_backend": {"type": "disk"}}))
    assert measured == []


def own_net(folder):
    """The file of docs/benchmark.md, exactly."""
    text = (ROOT / "docs" / "benchmark.md").read_text()
    (code,) = re.findall(r"```python\n(# my_net.py\n.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 30
    (folder / "my_net.py").write_text(code)
    (entries,) = re.findall(r"```yaml\n(  - label: mine\n.*?)```", text, re.DOTALL)
    return yaml.safe_load(entries)


def test_a_network_of_ones_own_is_trained_and_measured(write_options, working_folder, capsys):
    """Untrained it returns its input, so that any difference comes from the training process."""
    (entry,) = own_net(working_folder)
    path = write_options([{**entry, "train": {"optim_g": {"lr": 1e-2}}}])
    arguments = ["benchmark", "-opt", str(path), "--out", "out", "--import", "my_net.py", "--train-iters", "3"]
    assert main(arguments) == 0
    assert "report.html" in capsys.readouterr().out
    assert Path("out/report.html").is_file()
    results = read_json(Results, Path("out/results.json"))
    (entry,) = results.entries
    assert entry.error is None
    assert entry.training.iterations == 3
    assert entry.training.psnr == [entry.quality.psnr.mean]
    assert entry.quality.psnr.mean != results.blurred_quality[0].psnr.mean
    assert entry.quality.psnr.mean == pytest.approx(results.blurred_quality[0].psnr.mean, abs=3)
    assert Path("out", entry.weights).is_file()


def shrunk(table, working_folder):
    """A table's file at a tiny size: the same entries and keys, narrow networks, the test's data."""
    content = yaml.safe_load((ROOT / "options" / f"benchmark_{table}.yml").read_text())
    for entry in content["entries"]:
        if entry.get("network", {}).get("type") == "SunMotionNet":
            entry["network"]["channels"] = [4, 4, 8]
            photos = {"dataroot_gt": "pairs", "io_backend": {"type": "disk"}, "num_worker_per_gpu": 0}
            entry["datasets"]["train"].update(photos, pin_memory=False, persistent_workers=False)
        elif entry.get("network"):
            entry["network"].update(num_feat=8, num_blocks=1)
            if entry["network"]["type"] == "MACR":
                entry["network"]["branch_channels"] = 2
    data = {"dataroot": "pairs", "io_backend": {"type": "disk"}, "num_worker_per_gpu": 0}
    content["dataset"] = {"name": "pairs", **data}
    train = content["training"]["datasets"]["train"]
    for key in ("dataroot_lq", "dataroot_gt", "persistent_workers", "pin_memory"):
        del train[key]
    train.update(data, gt_size=48, dataset_enlarge_ratio=10)
    content["cost"].update(sizes=[[32, 48]], warm_up=1, runs=2, devices=["cpu"])
    path = working_folder / f"{table}.yml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("table", "trained", "published"), [("table4", 4, 4), ("table5", 3, 3), ("table6", 4, 4)])
def test_the_tables_of_the_paper_run_to_the_end(working_folder, table, trained, published):
    out = benchmark(shrunk(table, working_folder), train_iters=2)
    results = json.loads((out / "results.json").read_text())
    assert [entry["error"] for entry in results["entries"]] == [None] * published
    assert sum(entry["published"] is not None for entry in results["entries"]) == published
    assert sum(entry["training"] is not None for entry in results["entries"]) == trained
    assert sum(entry["quality"] is not None for entry in results["entries"]) == trained
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(("p90", "warns"), [(1.02, False), (3.0, True)])
def test_a_busy_machine_is_told_at_once(capsys, p90, warns):
    latency = Latency("a processor, 2 threads", "fp32", "eager", 1, 360, 640, 5, median_ms=1.0, p10_ms=1.0, p90_ms=p90)
    warn_of_spread("MACR", latency)
    expected = (
        "warning: MACR at 360x640 took from 1 to 3 ms (p10 to p90) on a processor, 2 threads: the machine is busy"
    )
    assert (expected in capsys.readouterr().err) == warns
