import itertools

import pytest
from matplotlib.figure import Figure

from macr_plugin.benchmark.report.charts import Point
from macr_plugin.benchmark.report.plots import place_labels


@pytest.mark.parametrize(
    "places",
    [
        [(0.1, 0.5), (0.97, 0.5)],
        [(0.4, 0.5), (0.45, 0.5)],
        [(0.4, 0.5), (0.43, 0.52), (0.45, 0.5), (0.5, 0.51), (0.38, 0.48)],
        [(0.02, 0.98), (0.03, 0.98), (0.98, 0.02), (0.97, 0.02)],
    ],
    ids=["apart", "neighbours", "a crowd", "corners"],
)
def test_labels_cover_neither_points_nor_each_other(places):
    """In the pixels of a chart of the report's size, which the labels do not leave to the sides."""
    axes = Figure(figsize=(8, 4.5), dpi=120).subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = [Point(f"NAFNet-{number}", *place, 0, 1, False, "") for number, place in enumerate(places)]
    boxes = place_labels(axes, points)
    assert len(boxes) == len(points)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for x, y in axes.transData.transform(places):
        assert not any(box.contains(x, y) for box in boxes)
    around = axes.get_window_extent()
    assert all(around.x0 <= box.x0 < box.x1 <= around.x1 for box in boxes)
