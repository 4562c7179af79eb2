import itertools
import math

import pytest
import torch

from macr_plugin.archs import motion_field
from macr_plugin.archs.motion_field import (
    CANDIDATES,
    CLASSES,
    LENGTHS,
    MotionCandidates,
    line_kernels,
    motion_distance,
    rotation,
    smooth_field,
)


def test_the_counts_of_the_paper():
    """12 lengths x 6 orientations and no motion; 12 x 30 and no motion."""
    assert (len(CLASSES), len(CANDIDATES)) == (73, 361)
    for motions in (CLASSES, CANDIDATES):
        assert len(motions.lengths()) == len(motions.angles()) == len(motions.vectors()) == len(motions)
        assert len({tuple(vector) for vector in motions.vectors().mul(1e6).round().tolist()}) == len(motions)
    assert CLASSES.lengths().unique().tolist() == list(LENGTHS)
    assert CLASSES.angles().unique().tolist() == [0, 30, 60, 90, 120, 150]


@pytest.mark.parametrize("motions", [CLASSES, CANDIDATES], ids=["classes", "candidates"])
def test_the_order_is_that_of_index(motions):
    for place, (length, angle) in enumerate(zip(motions.lengths().tolist(), motions.angles().tolist(), strict=True)):
        assert motions.index(int(length), int(angle)) == place


@pytest.mark.parametrize("length", LENGTHS)
def test_straight_kernels_are_boxes(length):
    kernels = CLASSES.kernels()
    expected = torch.zeros(25, 25, dtype=torch.float64)
    expected[12, 12 - length // 2 : 13 + length // 2] = 1 / length
    torch.testing.assert_close(kernels[CLASSES.index(length, 0)], expected)
    torch.testing.assert_close(kernels[CLASSES.index(length, 90)], expected.T)


def test_a_slanted_kernel_by_hand():
    """A line of 3 pixels at 45 degrees: its ends lie at (+-0.7071, +-0.7071)."""
    half = math.sqrt(0.5)
    (kernel,) = line_kernels(2 * torch.tensor([[half, half]], dtype=torch.float64), size=3)
    # Beside the line, at (1, 0), the distance is 0.7071; beyond its end, at (1, 1), sqrt(2) - 1.
    weights = torch.tensor([[2 - math.sqrt(2), 1 - half, 0], [1 - half, 1, 1 - half], [0, 1 - half, 2 - math.sqrt(2)]])
    torch.testing.assert_close(kernel, (weights / weights.sum()).double())


def test_kernels_are_normalized_symmetric_and_as_long_as_they_say():
    kernels = CANDIDATES.kernels()
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(361, dtype=torch.float64))
    torch.testing.assert_close(kernels, kernels.flip(1, 2))
    place = torch.arange(25, dtype=torch.float64) - 12
    spread = (kernels * (place[:, None].square() + place.square())).sum(dim=(1, 2))
    lengths = CANDIDATES.lengths()
    # Of a row of n pixels (n^2 - 1) / 12; a slanted line is up to a pixel wide besides.
    assert (spread - (lengths.square() - 1) / 12).abs().max() < 1.5
    # The axis along which a kernel spreads is the motion's.
    mixed = (kernels * place[:, None] * place).sum(dim=(1, 2))
    across = (kernels * (place.square() - place[:, None].square())).sum(dim=(1, 2))
    longer = lengths > 5
    found = torch.rad2deg(torch.atan2(2 * mixed, across) / 2) % 180
    distance = (found - CANDIDATES.angles())[longer].abs()
    assert torch.minimum(distance, 180 - distance).max() < 1.5


def test_distance_knows_no_direction():
    first = torch.tensor([[3.0, 4.0], [0.0, 0.0], [5.0, 0.0]])
    second = torch.tensor([[-3.0, -4.0], [3.0, 4.0], [0.0, 5.0]])
    torch.testing.assert_close(motion_distance(first, second), torch.tensor([0.0, 5.0, 50**0.5]))


def test_rotation_turns_x_towards_y():
    torch.testing.assert_close(rotation(90) @ torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double())


def noisy_evidence(field, generator, wrong):
    """Log-probabilities that favour the true label, but another one at some of the cells."""
    shape = field.shape
    misled = torch.rand(shape, generator=generator) < wrong
    seen = torch.where(misled, torch.randint(len(CANDIDATES), shape, generator=generator), field)
    return torch.zeros(len(CANDIDATES), *shape).scatter_(0, seen[None], 4.0).log_softmax(dim=0)


def smooth_truth(rows=24, columns=32):
    """Lengths that grow from left to right and orientations that turn from top to bottom."""
    lengths = torch.linspace(5, 21, columns).div(2).floor().int() * 2 + 1
    angles = torch.linspace(12, 60, rows).div(6).round().int() * 6
    return torch.tensor([[CANDIDATES.index(int(n), int(angle)) for n in lengths] for angle in angles])


def error_of(field, truth):
    vectors = CANDIDATES.vectors()
    return motion_distance(vectors[field], vectors[truth]).mean().item()


def test_smoothing_lowers_the_error_on_a_smooth_field():
    truth = smooth_truth()
    evidence = noisy_evidence(truth, torch.Generator().manual_seed(0), wrong=0.4)
    alone = smooth_field(evidence, CANDIDATES, 0.0, 4.0)
    assert torch.equal(alone, evidence.argmax(dim=0))
    smoothed = smooth_field(evidence, CANDIDATES, 0.5, 4.0)
    assert error_of(smoothed, truth) < error_of(alone, truth) / 4


def test_smoothing_keeps_the_edge_of_a_moving_object():
    truth = torch.full((20, 20), CANDIDATES.index(21, 0))
    truth[5:15, 5:15] = CANDIDATES.index(1, 0)
    evidence = noisy_evidence(truth, torch.Generator().manual_seed(1), wrong=0.2)
    smoothed = smooth_field(evidence, CANDIDATES, 0.5, 4.0)
    assert (smoothed == truth).float().mean() > 0.97


def test_marginals_are_those_of_all_fields_of_a_tree(monkeypatch):
    """Rows of 2 cells under each other: the tree of a row is all but the other rows' links, summed over all fields."""
    monkeypatch.setattr(motion_field, "LENGTHS", (1, 3))
    motions = MotionCandidates(90)
    assert motions.vectors().round(decimals=9).tolist() == [[0, 0], [2, 0], [0, 2]]
    torch.manual_seed(0)
    evidence = torch.randn(3, 2, 2, dtype=torch.float64)
    areas = motions.areas()
    link = torch.exp(-0.3 * torch.tensor([[0.0, 4.0, 4.0], [4.0, 0.0, 6.25], [4.0, 6.25, 0.0]], dtype=torch.float64))
    for row in range(2):
        marginals = torch.zeros(3, 2, dtype=torch.float64)
        for field in itertools.product(range(3), repeat=4):
            (here, other) = (field[:2], field[2:])
            weight = link[here[0], here[1]] * link[here[0], other[0]] * link[here[1], other[1]]
            for cell in range(2):
                weight = weight * evidence[here[cell], row, cell].exp() * evidence[other[cell], 1 - row, cell].exp()
                weight = weight * areas[here[cell]] * areas[other[cell]]
            for cell in range(2):
                # The likeliest place, not the likeliest area.
                marginals[here[cell], cell] += weight / areas[here[cell]]
        assert torch.equal(smooth_field(evidence, motions, 0.3, 2.5)[row], marginals.argmax(dim=0))


def test_areas_fill_the_half_plane():
    for motions in (CLASSES, CANDIDATES):
        assert motions.areas().sum().item() == pytest.approx(math.pi / 2 * 25**2)


def test_flat_evidence_is_filled_in_from_the_neighbours():
    label = CANDIDATES.index(11, 42)
    evidence = torch.zeros(len(CANDIDATES), 9, 9)
    evidence[label, :, :2] = 6.0
    field = smooth_field(evidence.log_softmax(dim=0), CANDIDATES, 0.5, 4.0)
    assert error_of(field, torch.full((9, 9), label)) < 1
