import numpy as np
import pytest
import skimage.data
import torch
from scipy.stats import multivariate_normal

from macr_plugin.archs.patch_prior import SHIPPED_MIXTURE, PatchMixture


def random_mixture(components=5, size=3, seed=0):
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(components, size**2, size**2)) * generator.uniform(0.02, 0.3, (components, 1, 1))
    weights = generator.dirichlet(np.ones(components))
    return weights, factors @ factors.transpose(0, 2, 1)


def step_by_patches(picture, weights, covariances, variance, size, stride, offset):
    """The same step patch by patch with SciPy's densities."""
    sums, counts = np.zeros_like(picture), np.zeros(picture.shape[1:])
    channels, height, width = picture.shape
    noise = variance * np.eye(size * size)
    for top in range(offset[0], height - size + 1, stride):
        for left in range(offset[1], width - size + 1, stride):
            window = (slice(top, top + size), slice(left, left + size))
            counts[window] += 1
            for channel in range(channels):
                patch = picture[channel][window].ravel()
                mean = patch.mean()
                likelihoods = [
                    np.log(weight) + multivariate_normal.logpdf(patch - mean, cov=covariance + noise)
                    for weight, covariance in zip(weights, covariances, strict=True)
                ]
                covariance = covariances[int(np.argmax(likelihoods))]
                restored = covariance @ np.linalg.solve(covariance + noise, patch - mean) + mean
                sums[channel][window] += restored.reshape(size, size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), picture)


@pytest.mark.parametrize("size", [(11, 14), (12, 9)])
@pytest.mark.parametrize(("stride", "offset"), [(1, (0, 0)), (2, (1, 0)), (3, (2, 2))])
def test_the_epll_step_is_that_of_each_patch(size, stride, offset):
    weights, covariances = random_mixture()
    mixture = PatchMixture(torch.from_numpy(weights), torch.from_numpy(covariances))
    # The reference takes the same numbers: those of single precision.
    weights, covariances = mixture.weights.double().numpy(), mixture.covariances.double().numpy()
    picture = np.random.default_rng(1).random((2, *size))
    found = mixture.denoise(torch.from_numpy(picture), 0.01, stride, offset)
    expected = step_by_patches(picture, weights, covariances, 0.01, 3, stride, offset)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_single_precision_chooses_the_same_components():
    mixture = PatchMixture.shipped()
    photo = torch.from_numpy(skimage.data.chelsea()[100:148, 200:248, 0].copy()).double() / 255
    patches = photo.unfold(0, 8, 3).unfold(1, 8, 3).reshape(-1, 64).T
    patches = patches - patches.mean(dim=0)
    for variance in (1 / 50, 1 / 3200):
        double = mixture.likeliest_components(patches, variance)
        assert (mixture.likeliest_components(patches.float(), variance) == double).double().mean() > 0.99


def test_the_shipped_mixture_is_sound_and_small():
    assert SHIPPED_MIXTURE.stat().st_size < 1e6
    mixture = PatchMixture.shipped()
    assert mixture.patch_size == 8
    assert mixture.weights.sum().item() == pytest.approx(1, abs=1e-3)
    assert torch.linalg.eigvalsh(mixture.covariances.double()).min() >= 0
    # Patches have lost their mean: no component spreads along it.
    spread = mixture.covariances.double().sum(dim=(1, 2)) / 64
    assert (spread < 1e-4 * mixture.covariances.double().diagonal(dim1=1, dim2=2).sum(dim=1) + 1e-5).all()


def test_noise_of_a_photograph_becomes_less():
    photo = torch.from_numpy(skimage.data.coffee()[100:196, 200:296].copy()).permute(2, 0, 1).float() / 255
    noisy = photo + 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    cleaned = PatchMixture.shipped().denoise(noisy, 0.05**2)
    before, after = ((picture - photo).square().mean().item() for picture in (noisy, cleaned))
    # At least 5 dB.
    assert after < before / 3


def test_no_checkpoint_holds_the_mixture():
    assert PatchMixture.shipped().state_dict() == {}
