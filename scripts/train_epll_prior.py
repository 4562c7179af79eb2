"""Learn the Gaussian mixture of 8x8 patches that SunMotionNet deconvolves with, from photographs of scikit-image.

pip install scikit-learn
python scripts/train_epll_prior.py [--out macr_plugin/archs/epll_prior.npz] [--components 64] [--patches 60000]

The two photographs of the demo's test split are left out. Covariances are stored as their Cholesky factors, so that
rounding to half precision leaves them positive.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.mixture import GaussianMixture

from macr_plugin.archs.patch_prior import SHIPPED_MIXTURE
from macr_plugin.data.synthesis.demo import PHOTO_FOLDER
from macr_plugin.data.synthesis.source_photos import read_photo
from macr_plugin.errors import one_line_errors

PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "grass.png", "gravel.png", "motorcycle_left.png"),
    *("motorcycle_right.png", "rocket.jpg"),
)
PATCH_SIZE = 8
# Added to the variances, of brightness in [0, 1]: that of rounding to 8 bits.
ROUNDING = 1 / 12 / 255**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SHIPPED_MIXTURE, help="file to write (default: the package's)")
    parser.add_argument("--components", type=int, default=64, help="number of Gaussians (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=60_000, help="patches to learn from (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=40, help="steps of EM at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    patches = draw_patches(arguments.patches, generator)
    mixture = GaussianMixture(
        arguments.components,
        reg_covar=ROUNDING,
        max_iter=arguments.iterations,
        init_params="k-means++",
        random_state=arguments.seed,
        verbose=2,
        verbose_interval=5,
    ).fit(patches)
    # EPLL's components have mean 0: about it, not about their own mean, the spread is measured.
    covariances = mixture.covariances_ + mixture.means_[:, :, None] * mixture.means_[:, None, :]
    rows, columns = np.tril_indices(PATCH_SIZE**2)
    factors = np.linalg.cholesky(covariances)[:, rows, columns]
    np.savez(arguments.out, weights=mixture.weights_.astype(np.float32), factors=factors.astype(np.float16))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e3:.0f} kB, {mixture.n_iter_} steps")


def draw_patches(number: int, generator: np.random.Generator) -> np.ndarray:
    """Draw patches of all photographs, one colour channel of each, without their means: shape (number, 64)."""
    photos = [read_photo(PHOTO_FOLDER / name).astype(np.float32) / 255 for name in PHOTOS]
    # Large photographs give more patches.
    sizes = np.array([photo.size for photo in photos], float)
    patches = np.empty((number, PATCH_SIZE**2), np.float32)
    for place, chosen in enumerate(generator.choice(len(photos), number, p=sizes / sizes.sum())):
        height, width, channels = photos[chosen].shape
        top, left = generator.integers(height - PATCH_SIZE + 1), generator.integers(width - PATCH_SIZE + 1)
        patch = photos[chosen][top : top + PATCH_SIZE, left : left + PATCH_SIZE, generator.integers(channels)]
        patches[place] = patch.ravel()
    return patches - patches.mean(axis=1, keepdims=True)


if __name__ == "__main__":
    with one_line_errors("train_epll_prior.py"):
        main()
