import base64
import csv
import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_results import CPU, FULL, GPU, SCRIPT_LABEL, TILED, make_results

from macr_plugin.benchmark.report import writer as report
from macr_plugin.benchmark.report.writer import write_report
from macr_plugin.benchmark.results import Results, read_json
from macr_plugin.errors import InputError

LABELS = ["MACR", "NAFNet-32", SCRIPT_LABEL, "RIDNet", "MACR in tiles", "Restormer", "Sun et al."]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = make_results(folder)
    assert write_report(results, folder) == folder / "report.html"
    return results, folder


def read_csv(folder, name):
    with (folder / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text):
    return float(text) if text else None


class Document(HTMLParser):
    """Attributes, visible text and the data of a page."""

    def __init__(self, file):
        super().__init__()
        self.attributes, self.text, self.raw, self._inside, self.tags = [], [], {}, None, []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.tags.append(tag)
        self._inside = dict(attrs).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        elif data.strip():
            self.text.append(data.strip())

    @property
    def data(self):
        return json.loads(self.raw["data"])


def markdown_cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_folder_holds_what_is_promised(written):
    _, folder = written
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["figures", "pictures", "report.html", "report.md", "results.json", "tables"]
    assert sorted(path.stem for path in (folder / "tables").iterdir()) == [
        "cost_amd_epyc_7763_2_threads_256x256_batch_1",
        "cost_nvidia_h100_80gb_hbm3_1280x720_batch_1",
        "not_measured",
        "quality_blur_full_uint8_rgb_mean",
        "quality_blur_tile_256_overlap_32_uint8_rgb_mean",
        "size",
        "training_blur_full_uint8_rgb_mean",
    ]


def test_json_reads_back_as_the_results(written):
    results, folder = written
    assert read_json(Results, folder / "results.json") == results


def test_quality_parses_back_and_protocols_stay_apart(written):
    results, folder = written
    rows = read_csv(folder, "quality_blur_full_uint8_rgb_mean")
    assert [row["label"] for row in rows] == ["blurred input", *LABELS[:4]]
    for row, entry in zip(rows[1:], results.entries, strict=False):
        for column, interval in (("psnr_db", entry.quality.psnr), ("ssim", entry.quality.figures["ssim"])):
            parts = [number(row[name]) for name in (column, f"{column}_low", f"{column}_high")]
            assert parts == [interval.mean, interval.low, interval.high]
    versus = results.entries[1].quality.versus_first
    assert number(rows[2]["difference_db"]) == versus.psnr.mean
    assert [int(rows[2][name]) for name in ("wins", "losses", "ties")] == [versus.wins, versus.losses, versus.ties]
    assert [row["verdict"] for row in rows] == ["", "", "not separated", "lower", "lower"]
    assert (rows[1]["published_psnr_db"], rows[1]["published_in"]) == ("32.3136", "Chen et al. 2021, table 4")
    (tiled,) = read_csv(folder, "quality_blur_tile_256_overlap_32_uint8_rgb_mean")
    assert (tiled["label"], tiled["inference"]) == ("MACR in tiles", "tile 256 overlap 32")


def test_cost_parses_back_and_devices_and_sizes_stay_apart(written):
    results, folder = written
    rows = read_csv(folder, "cost_nvidia_h100_80gb_hbm3_1280x720_batch_1")
    assert [(row["label"], row["dtype"], row["mode"]) for row in rows] == [
        ("MACR", "fp32", "eager"),
        ("MACR", "bf16", "cuda_graph"),
        ("NAFNet-32", "fp32", "eager"),
        ("NAFNet-32", "fp32", "compiled"),
        (SCRIPT_LABEL, "fp32", "eager"),
        ("RIDNet", "fp32", "eager"),
    ]
    for row, latency in zip(rows, results.entries[0].latencies[:2] + results.entries[1].latencies, strict=False):
        for name in ("median_ms", "p10_ms", "p90_ms", "frames_per_second", "peak_memory_mib"):
            assert number(row[name]) == getattr(latency, name)
        assert row["error"] == (latency.error or "")
    (small,) = read_csv(folder, "cost_amd_epyc_7763_2_threads_256x256_batch_1")
    assert (small["median_ms"], small["peak_memory_mib"]) == ("900", "")
    assert int(small["macs"]) == results.entries[0].complexity[0].macs


def test_failed_and_published_entries_have_rows(written):
    _, folder = written
    failed, published = read_csv(folder, "not_measured")
    assert (failed["label"], failed["error"]) == ("Restormer", "out of memory: try tiles")
    assert (published["label"], published["published_psnr_db"]) == ("Sun et al.", "24.64")
    (training,) = read_csv(folder, "training_blur_full_uint8_rgb_mean")
    assert (training["psnr_by_seed_db"], training["seeds"]) == ("30.1 30.3", "0 1")
    assert {row["label"]: row["parameters"] for row in read_csv(folder, "size")}["Restormer"] == "26130000"


def test_markdown_tables_are_well_formed_and_complete(written):
    _, folder = written
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    tables, current = [], []
    for line in [*lines, ""]:
        if line.startswith("|"):
            current.append(markdown_cells(line))
        elif current:
            tables.append(current)
            current = []
    assert len(tables) == 7
    for header, rule, *rows in tables:
        assert all(re.fullmatch(r"-{3}:?", cell) for cell in rule)
        assert {len(row) for row in (header, rule, *rows)} == {len(header)}
        assert rows
        assert all(any(row[column] for row in rows) for column in range(len(header))), "no empty columns"
    cells = {re.sub(r"\\(.)", r"\1", cell) for table in tables for row in table for cell in row}
    assert set(LABELS) <= cells
    assert sum(line.startswith(("## Quality by", "## Cost on")) for line in lines) == 4
    assert f"## Quality by {FULL}" in lines
    assert f"## Quality by {TILED}" in lines
    assert any(line.startswith("## Cost on") and GPU in line for line in lines)
    assert any(line.startswith("## Cost on") and CPU in line for line in lines)


def test_markdown_shows_the_figures(written):
    _, folder = written
    linked = re.findall(r"!\[.*\]\((.+?)\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert linked[-2:] == ["figures/scene0/000000.png", "figures/scene1/000003.png"]
    assert all((folder / name).is_file() for name in linked)
    for name in linked[-2:]:
        # Six pictures of 480 columns in two rows, each with a caption and an inset enlarged threefold.
        height, width, _ = cv2.imread(str(folder / name)).shape
        assert width == 4 * 480 + 3 * 4
        assert height == 2 * (28 + 360 + 4 + 240) + 4


def test_scatter_plots_are_drawn_where_matplotlib_is_installed(written, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    results, folder = written
    (name,) = (path.name for path in (folder / "figures").glob("psnr_over_latency*.png"))
    assert cv2.imread(str(folder / "figures" / name)).shape == (540, 960, 3)
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    results = dataclasses.replace(results, pictures=[])
    write_report(results, tmp_path)
    assert not list((tmp_path / "figures").iterdir())
    assert "![" not in (tmp_path / "report.md").read_text()


def test_page_needs_nothing_from_elsewhere(written):
    _, folder = written
    page = Document(folder / "report.html")
    links = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data", "poster")]
    assert links == ["#answer"]
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest", text)
    assert any(value and value.startswith("default-src 'none'; ") for _, value in page.attributes)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)


def test_page_escapes_labels(written):
    _, folder = written
    page = Document(folder / "report.html")
    assert page.tags.count("script") == 2
    assert SCRIPT_LABEL in page.text
    assert any(SCRIPT_LABEL in value for name, value in page.attributes if name == "aria-label")
    assert SCRIPT_LABEL in [side["label"] for side in page.data["frames"][0]["sides"]]
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")


def test_page_contains_every_entry_and_answers_first(written):
    results, folder = written
    page = Document(folder / "report.html")
    assert set(LABELS) <= set(page.text)
    assert "out of memory: try tiles" in page.text
    assert page.text.index("Which net should I use?") < page.text.index("Use NAFNet-32.") < page.text.index(FULL)
    assert results.environment["torch"] in page.text


def test_page_shows_pictures_without_loss_around_the_detail(written):
    results, folder = written
    frame = Document(folder / "report.html").data["frames"][0]
    compared = results.pictures[0]
    assert [side["label"] for side in frame["sides"]] == ["blurred input", *compared.restored, "sharp"]
    for side, path in zip(frame["sides"], [compared.blurred, *compared.restored.values(), compared.sharp], strict=True):
        encoded = base64.b64decode(side["source"].removeprefix("data:image/webp;base64,"))
        shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(shown, cv2.imread(str(folder / path)))
    psnr = {entry.label: entry.quality.frames[0].psnr for entry in results.entries[:4]}
    assert {side["label"]: side["psnr"] for side in frame["sides"][1:-1]} == psnr
    assert frame["sides"][-1]["psnr"] is None


def test_large_pictures_are_cut_and_surplus_frames_left_to_the_figures(tmp_path, monkeypatch):
    results = make_results(tmp_path)
    monkeypatch.setattr(report, "VIEW", (100, 200))
    (first,) = Document(write_report(results, tmp_path)).data["frames"][:1]
    assert (first["height"], first["width"]) == (100, 200)
    one_frame = sum(len(side["source"]) for side in first["sides"])
    monkeypatch.setattr(report, "MAX_PAGE_PICTURES", one_frame)
    page = Document(write_report(results, tmp_path))
    assert [frame["key"] for frame in page.data["frames"]] == ["scene0/000000"]
    assert any("left to the folder of figures: scene1/000003" in " ".join(text.split()) for text in page.text)
    assert (tmp_path / "figures/scene1/000003.png").is_file()


def test_captions_give_no_psnr_of_another_protocol(tmp_path):
    results = make_results(tmp_path)
    results.pictures[0].restored["MACR in tiles"] = results.pictures[0].sharp
    sides = Document(write_report(results, tmp_path)).data["frames"][0]["sides"]
    assert {side["label"]: side["psnr"] for side in sides}["MACR in tiles"] is None


def test_nothing_measured_still_makes_a_report(tmp_path):
    results = make_results(tmp_path)
    results.entries, results.pictures, results.blurred_quality = results.entries[5:], [], []
    page = Document(write_report(results, tmp_path))
    assert "No net's quality was measured." in page.text
    assert page.data["frames"] == page.data["strips"] == []
    assert "out of memory: try tiles" in (tmp_path / "report.md").read_text()


def test_no_entries_at_all(tmp_path):
    results = Results("title", "2021-07-15", {}, "data", [], [])
    assert "No net's quality was measured." in Document(write_report(results, tmp_path)).text


def test_perfect_restoration_is_no_obstacle(tmp_path):
    results = make_results(tmp_path)
    for quality in (results.entries[0].quality, results.entries[1].quality):
        quality.frames[0].figures["psnr"] = quality.psnr.mean = quality.psnr.high = math.inf
    page = Document(write_report(results, tmp_path))
    assert page.data["frames"][0]["sides"][1]["psnr"] is None
    assert read_csv(tmp_path, "quality_blur_full_uint8_rgb_mean")[1]["psnr_db"] == "inf"


def test_new_report_replaces_all_of_the_old_one(tmp_path):
    results = make_results(tmp_path)
    write_report(results, tmp_path)
    results.entries, results.pictures = results.entries[:1], results.pictures[:1]
    write_report(results, tmp_path)
    assert not list((tmp_path / "tables").glob("*tile*"))
    assert [path.name for path in (tmp_path / "figures").rglob("*.png")] == ["000000.png"]
    assert "Restormer" not in (tmp_path / "report.html").read_text()


def test_damaged_picture_is_named_and_the_old_report_kept(tmp_path):
    results = make_results(tmp_path)
    before = write_report(results, tmp_path).read_bytes()
    Path(tmp_path, results.pictures[1].sharp).write_bytes(b"no picture")
    with pytest.raises(InputError, match=re.escape(results.pictures[1].sharp)):
        write_report(results, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
