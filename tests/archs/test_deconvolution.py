import numpy as np
import pytest
import skimage.data
import torch
from torch.nn import functional

from macr_plugin.archs.deconvolution import BlurOperator, conjugate_gradients, deconvolve
from macr_plugin.archs.motion_field import CANDIDATES
from macr_plugin.archs.patch_prior import PatchMixture

KERNELS = CANDIDATES.kernels()


def random_labels(height, width, seed=0):
    return torch.randint(len(CANDIDATES), (height, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(31, 40), (1, 7), (30, 33)])
def test_blur_is_the_convolution_with_each_pixels_kernel(size):
    torch.manual_seed(0)
    labels = random_labels(*size)
    operator = BlurOperator(KERNELS, labels, torch.float64)
    sharp = torch.rand(3, *operator.sharp_size, dtype=torch.float64)
    everywhere = functional.conv2d(sharp[:, None], KERNELS[:, None])
    expected = everywhere.gather(1, labels.expand(3, 1, *size))[:, 0]
    torch.testing.assert_close(operator.blur(sharp), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_dot_product_of_blur_and_adjoint(dtype, tolerance):
    torch.manual_seed(0)
    operator = BlurOperator(KERNELS, random_labels(37, 53), dtype)
    sharp, blurred = torch.randn(3, *operator.sharp_size, dtype=dtype), torch.randn(3, 37, 53, dtype=dtype)
    one = (operator.blur(sharp).double() * blurred.double()).sum()
    other = (sharp.double() * operator.adjoint(blurred).double()).sum()
    scale = operator.blur(sharp).double().norm() * blurred.double().norm()
    assert (one - other).abs() < tolerance * scale


def test_kernels_without_symmetry_are_turned_in_the_adjoint():
    """Any bank of kernels will do: here one that moves everything."""
    kernels = torch.zeros(1, 3, 3, dtype=torch.float64)
    kernels[0, 0, 2] = 1
    operator = BlurOperator(kernels, torch.zeros(4, 5, dtype=torch.int64), torch.float64)
    sharp = torch.arange(42, dtype=torch.float64).view(1, 6, 7)
    assert torch.equal(operator.blur(sharp), sharp[:, :4, 2:])
    spread = operator.adjoint(torch.ones(1, 4, 5, dtype=torch.float64))
    assert torch.equal(spread, functional.pad(torch.ones(1, 4, 5, dtype=torch.float64), (2, 0, 0, 2)))


def test_pad_and_crop_are_inverse():
    operator = BlurOperator(KERNELS, random_labels(9, 11))
    picture = torch.rand(3, 9, 11)
    assert operator.pad(picture).shape == (3, 33, 35)
    assert torch.equal(operator.crop(operator.pad(picture)), picture)


def test_conjugate_gradients_solve_a_dense_system():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(20, 20))
    matrix, target = root @ root.T + np.eye(20), generator.normal(size=20)
    solution = conjugate_gradients(
        lambda x: torch.from_numpy(matrix) @ x, torch.from_numpy(target), torch.zeros(20).double(), 100, 1e-10
    )
    np.testing.assert_allclose(solution.numpy(), np.linalg.solve(matrix, target), rtol=1e-6)


def test_a_turn_solves_its_linear_system():
    """One beta: the result minimizes data term and distance to the cleaned patches, by a dense solver."""
    torch.manual_seed(0)
    labels, mixture, sigma, beta = random_labels(6, 7), PatchMixture.shipped(), 0.02, 300.0
    operator = BlurOperator(KERNELS, labels, torch.float64)
    blurred = torch.rand(1, 6, 7, dtype=torch.float64)
    pixels = operator.sharp_size[0] * operator.sharp_size[1]
    matrix = operator.blur(torch.eye(pixels, dtype=torch.float64).view(pixels, *operator.sharp_size)).flatten(1).T
    patches = mixture.denoise(operator.pad(blurred), 1 / beta)
    system = matrix.T @ matrix / sigma**2 + beta * torch.eye(pixels, dtype=torch.float64)
    expected = torch.linalg.solve(system, matrix.T @ blurred.flatten() / sigma**2 + beta * patches.flatten())
    found = deconvolve(blurred, operator, mixture, sigma, (beta,), iterations=2000, tolerance=1e-12)
    torch.testing.assert_close(found, operator.crop(expected.view(1, *operator.sharp_size)), rtol=1e-5, atol=1e-6)


def decibels(picture, sharp):
    return -10 * (picture.clamp(0, 1) - sharp).square().mean().log10().item()


@pytest.mark.parametrize(("length", "angle"), [(7, 30), (11, 96), (15, 156)])
def test_known_blur_is_removed(length, angle):
    """Noise of 1/255 and rounding to 8 bits: at least 3 dB, on a photograph that the prior has not seen."""
    photo = torch.from_numpy(skimage.data.coffee()[120:264, 200:368].copy()).permute(2, 0, 1).float() / 255
    operator = BlurOperator(KERNELS, torch.full((120, 144), CANDIDATES.index(length, angle)))
    noise = torch.randn(3, 120, 144, generator=torch.Generator().manual_seed(0)) / 255
    blurred = ((operator.blur(photo) + noise) * 255).round().clamp(0, 255) / 255
    restored = deconvolve(blurred, operator, PatchMixture.shipped(), 0.006, stride=4)
    sharp = operator.crop(photo)
    assert decibels(restored, sharp) > decibels(blurred, sharp) + 3
