import csv
import logging

import basicsr.utils
import cv2
import numpy as np
import pytest
import torch

from macr_plugin import line_chart
from macr_plugin.line_chart import HEIGHT, LINE, WIDTH
from macr_plugin.models import validation_curve
from macr_plugin.models.validation_curve import CurvePoint, ValidationCurve, draw_curve


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(validation_curve.time, "monotonic", lambda: Clock.now)
    return Clock


def table(folder):
    return list(csv.DictReader((folder / "val_curve.csv").open()))


def add(curve, iteration, psnr):
    curve.add(iteration, {"psnr": psnr, "ssim": 0.9}, {"psnr": 25.0, "ssim": 0.8})


def test_table_holds_every_metric_and_the_picture_comes_with_the_second_validation(tmp_path, clock):
    curve = ValidationCurve(tmp_path, "val", began=990.0)
    add(curve, 5, 26.5)
    assert [path.name for path in tmp_path.iterdir()] == ["val_curve.csv"]
    clock.now += 20
    add(curve, 10, 27.25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val_curve.csv", "val_curve.png"]
    rows = table(tmp_path)
    assert [(row["iteration"], row["seconds"], float(row["psnr"])) for row in rows] == [
        ("5", "10.0", 26.5),
        ("10", "30.0", 27.25),
    ]
    assert float(rows[0]["ssim of blurred input"]) == 0.8
    assert cv2.imread(str(tmp_path / "val_curve.png")).shape == (HEIGHT, 2 * WIDTH, 3)


def test_resume_goes_on_from_its_own_iteration(tmp_path, clock):
    first = ValidationCurve(tmp_path, "val", began=1000.0)
    for iteration, psnr in ((5, 26.0), (10, 27.0), (15, 28.0)):
        clock.now += 60
        add(first, iteration, psnr)
    # Killed after 15, resumed from the checkpoint of 5, hours later: what came after it is measured again.
    clock.now = 9000.0
    second = ValidationCurve(tmp_path, "val", began=8960.0)
    add(second, 10, 27.5)
    clock.now += 30
    add(second, 15, 28.5)
    assert [(int(row["iteration"]), float(row["seconds"]), float(row["psnr"])) for row in table(tmp_path)] == [
        (5, 60, 26.0),
        (10, 100, 27.5),
        (15, 130, 28.5),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"my notes", b"iteration,seconds\nfive,six\n", bytes(range(256)), b"a,b\n1\n"]
)
def test_table_that_cannot_be_read_is_begun_anew(tmp_path, content):
    (tmp_path / "val_curve.csv").write_bytes(content)
    curve = ValidationCurve(tmp_path, "val", began=0)
    add(curve, 5, 26.0)
    assert [row["iteration"] for row in table(tmp_path)] == ["5"]


def highest_pixels(points):
    """Rows of the line's uppermost pixels in the left and the right chart."""
    drawn = draw_curve(points, "val")
    inside = np.abs(drawn.astype(int) - LINE).sum(axis=2) < 30
    return [np.argwhere(half)[:, 0].min() for half in np.split(inside, 2, axis=1)]


def test_better_is_drawn_higher():
    def points(*values):
        return [CurvePoint(5 * n, 60.0 * n, {"psnr": value}, {"psnr": 20.0}) for n, value in enumerate(values, 1)]

    low, high = highest_pixels(points(20.5, 21, 29.8)), highest_pixels(points(20.5, 21, 22.1, 25.2))
    assert low[0] == low[1]
    assert low[0] < 60
    assert high[0] > low[0]


@pytest.mark.parametrize("values", [(26.0, 26.0), (float("inf"), 27.0), (float("nan"), float("inf")), (-3.0, 4e5)])
def test_any_figures_can_be_drawn(values):
    points = [CurvePoint(n, float(n), {"psnr": value}, {"psnr": float("inf")}) for n, value in enumerate(values)]
    assert draw_curve(points, "val").shape == (HEIGHT, 2 * WIDTH, 3)


def test_a_long_title_is_written_whole_in_two_lines():
    points = [CurvePoint(5 * n, 60.0 * n, {"psnr": 20.0 + n}, {"psnr": 20.0}) for n in (1, 2)]
    name = "HIDE_test_long_shots_and_close_ups_of_people_in_the_streets_of_a_town_in_summer"
    titles = [np.split(draw_curve(points, title), 2, axis=1)[0][:36] for title in ("val", name)]
    assert all((title[:2] == 255).all() and (title[:, -2:] == 255).all() for title in titles)
    # Between the numbers at the left and the label of the highest point.
    rows = [np.flatnonzero((title[:, 70:450] != 255).any(axis=(1, 2))) for title in titles]
    spans = [row.max() - row.min() for row in rows]
    assert spans[0] < 16 < spans[1]


class Frames(torch.utils.data.Dataset):
    def __init__(self):
        self.opt = {"name": "val", "phase": "val"}

    def __len__(self):
        return 2

    def __getitem__(self, index):
        sharp = torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(index))
        return {"lq": sharp / 2, "gt": sharp, "lq_path": f"scene/{index}"}


def test_a_training_leaves_its_curve_and_goes_on_without_one(build, tmp_path, caplog):
    basicsr.utils.get_root_logger().propagate = True
    folder, loader = tmp_path / "visualization", torch.utils.data.DataLoader(Frames())
    model = build()
    for iteration in (5, 10):
        model.validation(loader, iteration, None, save_img=False)
    assert [float(row["psnr"]) for row in table(folder)] == [pytest.approx(model.metric_results["psnr"], abs=1e-5)] * 2
    assert (folder / "val_curve.png").is_file()
    # A folder where the table shall be: nothing can be written there.
    (folder / "val_curve.csv").unlink()
    (folder / "val_curve.csv").mkdir()
    blocked = build()
    with caplog.at_level(logging.WARNING, "basicsr"):
        blocked.validation(loader, 5, None, save_img=False)
    assert "no validation curve: " in caplog.text
    assert blocked.metric_results["psnr"] > 0


def test_a_test_run_has_no_curve(build, tmp_path):
    build(is_train=False).validation(torch.utils.data.DataLoader(Frames()), "run", None, save_img=False)
    assert list((tmp_path / "visualization").glob("*curve*")) == []


@pytest.mark.parametrize(("lower_is_better", "best", "other"), [(True, "2.00", "6.00"), (False, "6.00", "2.00")])
def test_the_best_point_is_marked_for_either_order(monkeypatch, lower_is_better, best, other):
    written = []
    monkeypatch.setattr(line_chart, "_write", lambda picture, text, *args, **options: written.append(text))
    points = [CurvePoint(10 * n, n, {"niqe": value}, {"niqe": 5.5}) for n, value in enumerate([4.0, 2.0, 6.0], 1)]
    draw_curve(points, "test", lower_is_better)
    assert best in written
    assert other not in written
