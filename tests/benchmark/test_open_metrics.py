"""A metric of one's own, one module and one line of the table: everything that measures and shows metrics has it."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from macr_plugin import registration
from macr_plugin.benchmark.measuring.quality import compare, summarise
from macr_plugin.benchmark.options import Protocol
from macr_plugin.benchmark.report.tables import all_tables, write_csv, write_markdown
from macr_plugin.benchmark.results import EntryResult, Quality, Results, read_json, to_json
from macr_plugin.metrics import metric_table
from macr_plugin.metrics.metric import Metric
from macr_plugin.metrics.psnr_ssim import to_uint8
from macr_plugin.models.validation import FrameVersions, measure


def mean_error(pictures, sharp, *, crop_border=0, test_y_channel=False):
    height, width = sharp.shape[-2:]
    inside = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    return (to_uint8(pictures).double() - to_uint8(sharp).double())[inside].abs().mean((1, 2, 3))


def calculate_mean_error(img, img2, crop_border, **kwargs):
    return float(np.abs(img.astype(float) - img2).mean())


MEAN_ERROR = Metric(
    name="mean_error",
    heading="Mean error",
    unit="levels",
    digits=3,
    measure=mean_error,
    measure_unrounded=lambda restored, sharp: 255 * (restored - sharp).abs().mean(),
    calculate=calculate_mean_error,
    note="the mean error is of all channels",
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(metric_table, "METRICS", (*metric_table.METRICS, MEAN_ERROR))
    monkeypatch.setattr(METRIC_REGISTRY, "_obj_map", dict(METRIC_REGISTRY._obj_map))
    registration.register_all()


@pytest.fixture
def frames():
    """A sharp frame, and the same six levels brighter."""
    sharp = torch.randint(0, 200, (1, 3, 24, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return sharp + 6, sharp


def test_basicsr_knows_it():
    assert METRIC_REGISTRY.get("calculate_mean_error") is calculate_mean_error


def test_validation_measures_it_on_the_device(frames, monkeypatch):
    brighter, sharp = frames
    monkeypatch.setattr("macr_plugin.models.validation.calculate_metric", None)
    options = {"error": {"type": "calculate_mean_error", "crop_border": 2}}
    figures = measure("a/1", FrameVersions(blurred=brighter, restored=sharp, sharp=sharp), options)
    assert figures["error"].tolist() == [0, 6]


@pytest.mark.parametrize("rounding", ["uint8", "float"])
def test_a_benchmark_measures_keeps_and_shows_it(frames, tmp_path, rounding):
    brighter, sharp = (frame.float() / 255 for frame in frames)
    protocol = Protocol(rounding=rounding)
    quality = summarise(f"blur/full/{rounding}/rgb/mean", [compare("a/1", brighter, sharp, protocol)])
    (tmp_path / "x.json").write_text(to_json(quality))
    assert json.loads((tmp_path / "x.json").read_text())["frames"][0]["mean_error"] == pytest.approx(6)
    quality = read_json(Quality, tmp_path / "x.json")
    entry = EntryResult("mine", network="MACR", quality=quality)
    table = all_tables(Results("t", "now", {}, "pairs", [], [entry]))[0]
    assert table.rows[0]["Mean error (levels)"].text == "6.000"
    assert "Mean error (levels)" in write_markdown(table)
    assert "the mean error is of all channels" in table.note
    assert float(next(csv.DictReader(io.StringIO(write_csv(table))))["mean_error_levels"]) == pytest.approx(6)


def test_results_from_before_the_metric_have_an_empty_cell(frames, monkeypatch):
    brighter, sharp = (frame.float() / 255 for frame in frames)
    with monkeypatch.context() as before:
        before.setattr(metric_table, "METRICS", metric_table.METRICS[:-1])
        quality = summarise("blur/full/uint8/rgb/mean", [compare("a/1", brighter, sharp, Protocol())])
    entry = EntryResult("mine", network="MACR", quality=quality)
    assert all_tables(Results("t", "now", {}, "pairs", [], [entry]))[0].rows[0]["Mean error (levels)"].text == ""
