import numpy as np
import pytest
import torch
from torch.nn import functional

from macr_plugin.archs.motion_classifier import (
    CELL,
    PATCH_SIZE,
    MotionClassifier,
    _sample,
    candidate_log_probabilities,
)
from macr_plugin.archs.motion_field import CANDIDATES, CLASSES, motion_distance


@torch.no_grad()
def test_a_patch_is_classified_as_the_paper_lays_it_out():
    torch.manual_seed(0)
    net = MotionClassifier((4, 5, 6))
    conv1, conv2, dense, linear = (net.layers[index] for index in (0, 3, 6, 8))
    patch = torch.rand(2, 3, PATCH_SIZE, PATCH_SIZE)
    first = functional.max_pool2d(functional.conv2d(patch - 0.5, conv1.weight, conv1.bias).relu(), 2)
    second = functional.max_pool2d(functional.conv2d(first, conv2.weight, conv2.bias).relu(), 2)
    assert first.shape[2:] == (12, 12)
    assert second.shape[2:] == (4, 4)
    hidden = (second.flatten(1) @ dense.weight.flatten(1).T + dense.bias).relu()
    expected = hidden @ linear.weight.flatten(1).T + linear.bias
    assert expected.shape == (2, 73)
    torch.testing.assert_close(net(patch).flatten(1), expected)


@torch.no_grad()
def test_a_picture_is_classified_patch_by_patch():
    torch.manual_seed(0)
    net = MotionClassifier((4, 5, 6))
    picture = torch.rand(1, 3, 47, 38)
    logits = net(picture)
    assert logits.shape == (1, 73, (47 - 22) // 8, (38 - 22) // 8)
    for row in range(logits.shape[2]):
        for column in range(logits.shape[3]):
            patch = picture[..., CELL * row : CELL * row + PATCH_SIZE, CELL * column : CELL * column + PATCH_SIZE]
            torch.testing.assert_close(logits[..., row : row + 1, column : column + 1], net(patch))


class Spectrum(torch.nn.Module):
    """A classifier without weights: which of the 73 kernels explains how much energy each gradient has?

    Along a motion the gradients are weak and across it strong: the score of an orientation is minus the energy of the
    derivative in it, and lengths are not told apart but for the one that is asked for.
    """

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, pictures):
        grey = pictures.mean(dim=1, keepdim=True)
        places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grey.shape[2:]), indexing="ij")[::-1], dim=-1)
        scores = torch.full((1, 73, *((n - 22) // 8 for n in grey.shape[2:])), -1e4)
        for angle in range(0, 180, 30):
            step = torch.tensor([np.cos(np.radians(angle)), np.sin(np.radians(angle))], dtype=torch.float32)
            moved = _sample(grey[0], places + step, "bicubic") - _sample(grey[0], places - step, "bicubic")
            energy = functional.avg_pool2d(moved[None].square(), PATCH_SIZE, CELL)
            scores[:, CLASSES.index(self.length, angle)] = -3000 * energy[:, 0]
        return scores


@pytest.mark.parametrize("size", [(96, 128), (97, 131)])
@pytest.mark.parametrize("angle", [0, 6, 24, 36, 48, 90, 102, 168, 174])
@torch.no_grad()
def test_rotations_find_the_orientations_between_the_classes(angle, size):
    sharp = torch.rand(3, size[0] + 24, size[1] + 24, generator=torch.Generator().manual_seed(0))
    kernel = CANDIDATES.kernels()[CANDIDATES.index(15, angle)].float()
    blurred = functional.conv2d(sharp[:, None], kernel[None, None])[:, 0]
    scores = candidate_log_probabilities(Spectrum(15), blurred)
    assert scores.shape == (361, -(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(scores.exp().sum(dim=0), torch.ones(scores.shape[1:]))
    # Over the whole picture, the likeliest candidate is the true one or its neighbour.
    found = CANDIDATES.vectors()[scores.mean(dim=(1, 2)).argmax()]
    assert motion_distance(found, CANDIDATES.vectors()[CANDIDATES.index(15, angle)]) < 14 * np.radians(6) + 1e-6


@torch.no_grad()
def test_the_upright_picture_is_read_without_interpolation():
    """The classes at 0, 30, ... are those of the padded picture itself, cell by cell around its centre."""
    torch.manual_seed(0)
    net = MotionClassifier((4, 5, 6))
    picture = torch.rand(3, 64, 48)
    padded = functional.pad(picture[None], (11, 11, 11, 11), mode="replicate")
    expected = net(padded).softmax(dim=1)[0]
    found = candidate_log_probabilities(net, picture).exp()
    upright = torch.cat([found[:1], found[1::5]])
    # The rest of the candidates share the probability.
    ratio = upright[1:] / expected[1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-6)
