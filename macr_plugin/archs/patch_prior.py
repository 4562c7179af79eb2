"""What small patches of sharp photographs look like: a Gaussian mixture, and the EPLL step that uses it.

Daniel Zoran, Yair Weiss: "From learning models of natural image patches to whole image restoration", ICCV 2011.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

#: Mixture that comes with the package, made by scripts/train_epll_prior.py.
SHIPPED_MIXTURE = Path(__file__).parent / "epll_prior.npz"
#: Patches that are compared with all components at once.
CHUNK = 1024


class PatchMixture(nn.Module):
    """Gaussian mixture of square patches without their mean brightness, each component with mean 0.

    Its numbers are constants, which no checkpoint holds.

    Args:
        weights: Probability of each component in [0, 1], shape (K,).
        covariances: Of the pixels of a patch in rows, for brightness in [0, 1], shape (K, P * P, P * P).
    """

    weights: Tensor
    covariances: Tensor

    def __init__(self, weights: Tensor, covariances: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights.to(torch.float32), persistent=False)
        self.register_buffer("covariances", covariances.to(torch.float32), persistent=False)
        self.patch_size = math.isqrt(covariances.shape[-1])

    @classmethod
    def shipped(cls) -> PatchMixture:
        """Load the mixture that comes with the package: 8x8 patches of photographs that scikit-image ships."""
        with np.load(SHIPPED_MIXTURE) as stored:
            weights, packed = torch.from_numpy(stored["weights"]), torch.from_numpy(stored["factors"])
        side = (math.isqrt(8 * packed.shape[1] + 1) - 1) // 2
        factors = torch.zeros(len(packed), side, side, dtype=torch.float64)
        rows, columns = torch.tril_indices(side, side)
        factors[:, rows, columns] = packed.double()
        return cls(weights, factors @ factors.mT)

    @torch.no_grad()
    def denoise(self, picture: Tensor, variance: float, stride: int = 1, offset: tuple[int, int] = (0, 0)) -> Tensor:
        """Draw the patches of a picture towards the mixture: the step of EPLL that knows the prior.

        Every patch of every channel loses its mean, is given the component to which it belongs most likely if it has
        white noise, and becomes the likeliest patch of that component. The results are averaged where patches overlap.

        Args:
            picture: Shape (C, H, W) with brightness in [0, 1], at least one patch high and wide.
            variance: Of the noise; EPLL's ``1 / beta``.
            stride: Pixels between patches; EPLL takes each, 1.
            offset: First row and column of the patches, below ``stride``.

        Returns:
            Shape (C, H, W), not clipped. Pixels that no patch covers are left as they are.

        Example:
            >>> PatchMixture.shipped().denoise(torch.rand(3, 16, 20), variance=0.01, stride=4).shape
            torch.Size([3, 16, 20])
        """
        size, (top, left) = self.patch_size, offset
        part = picture[:, top:, left:]
        columns = functional.unfold(part[:, None], size, stride=stride)
        # One patch of any channel a column: (P * P, C * patches).
        patches = columns.transpose(0, 1).reshape(size * size, -1)
        cleaned = self._denoise_patches(patches, variance).view(size * size, len(picture), -1).transpose(0, 1)
        sums = _overlap(cleaned, part.shape[-2:], size, stride)
        counts = _overlap(torch.ones_like(columns[:1]), part.shape[-2:], size, stride)
        restored = picture.clone()
        restored[:, top:, left:] = torch.where(counts > 0, sums / counts.clamp(min=1), part)
        return restored

    def _denoise_patches(self, patches: Tensor, variance: float) -> Tensor:
        """Likeliest sharp patch for each noisy one, (P * P, n)."""
        means = patches.mean(dim=0, keepdim=True)
        centred = patches - means
        components = self.likeliest_components(centred, variance)
        noise = variance * torch.eye(len(patches), dtype=torch.float64, device=patches.device)
        covariances = self.covariances.double()
        filters = torch.linalg.solve(covariances + noise, covariances).mT.to(patches.dtype)
        # Sorted by component, each of them is one product.
        order = components.argsort()
        counts = torch.bincount(components, minlength=len(filters)).tolist()
        parts = centred[:, order].split(counts, dim=1)
        filtered = torch.cat([filter_ @ part for part, filter_ in zip(parts, filters, strict=True)], dim=1)
        return torch.empty_like(centred).index_copy_(1, order, filtered) + means

    def likeliest_components(self, patches: Tensor, variance: float) -> Tensor:
        """Tell to which component each noisy patch belongs most likely.

        Args:
            patches: Brightness without its mean, in [-1, 1], one patch a column, shape (P * P, n).
            variance: Of the noise in them.

        Returns:
            Shape (n,), int64.
        """
        quadratic, constant = self._log_likelihood_terms(len(patches), variance, patches)
        # A quadratic form is linear in the products of two pixels, so that all components are one matrix product.
        return torch.cat(
            [(quadratic @ _products(chunk) + constant).argmax(dim=0) for chunk in patches.split(CHUNK, dim=1)]
        )

    def _log_likelihood_terms(self, pixels: int, variance: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the products of two pixels in their order, (K, products), and the rest, (K, 1)."""
        noisy = self.covariances.double() + variance * torch.eye(pixels, dtype=torch.float64, device=like.device)
        precisions = torch.linalg.inv(noisy)
        first, second = torch.triu_indices(pixels, pixels, device=like.device)
        # Products off the diagonal stand for two entries of the symmetric matrix.
        factors = precisions[:, first, second] * torch.where(first == second, -0.5, -1.0)
        constant = self.weights.double().log() - 0.5 * torch.linalg.slogdet(noisy).logabsdet
        return factors.to(like.dtype), constant[:, None].to(like.dtype)


def _products(values: Tensor) -> Tensor:
    """All products of two rows, each pair once, in the order of triu_indices: (n, m) becomes (n * (n + 1) / 2, m)."""
    # Slices: indexing by triu_indices takes six times as long.
    return torch.cat([values[row:] * values[row] for row in range(len(values))])


def _overlap(columns: Tensor, size: torch.Size, patch_size: int, stride: int) -> Tensor:
    """Add patches (C, P * P, patches) up where they lie, (C, H, W)."""
    return functional.fold(columns, tuple(size), patch_size, stride=stride)[:, 0]
