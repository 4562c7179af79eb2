"""Blur that differs from pixel to pixel, and its removal where it is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from macr_plugin.archs.patch_prior import PatchMixture

#: Weights below it are left out of the operator: what rounding makes of a zero.
SMALLEST_WEIGHT = 1e-6


class BlurOperator:
    """The linear map from a sharp picture to one that is blurred by a kernel of its own at every pixel.

    ``blurred(p) = sum over d of kernel(p)(d) * sharp(p + d)``. The sharp picture is larger by the radius of the kernels
    on each side, so that nothing is assumed of what lies beyond the border. Stored as a sparse matrix and its
    transpose, with some 2 to 3 numbers for each pixel and each pixel of a motion's length.

    Args:
        kernels: Shape (K, S, S) with odd S; weights of at least 0 that add up to 1.
        labels: Index of the kernel of each pixel, shape (H, W), int64.
        dtype: Floating type of the pictures.

    Example:
        >>> kernels, labels = torch.full((1, 3, 3), 1 / 9), torch.zeros(5, 6, dtype=torch.int64)
        >>> BlurOperator(kernels, labels).blur(torch.ones(3, 7, 8)).shape
        torch.Size([3, 5, 6])
    """

    def __init__(self, kernels: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.radius = kernels.shape[-1] // 2
        self.size = int(labels.shape[0]), int(labels.shape[1])
        self.sharp_size = self.size[0] + 2 * self.radius, self.size[1] + 2 * self.radius
        with warnings.catch_warnings():
            # PyTorch warns at the first sparse matrix of a process that their support is in beta.
            warnings.filterwarnings("ignore", message=".*[Ss]parse.*", category=UserWarning)
            self._forward = self._matrix(kernels.to(labels.device, dtype), labels)
            self._adjoint = self._forward.t().to_sparse_csr()

    def _matrix(self, kernels: Tensor, labels: Tensor) -> Tensor:
        kept = kernels > SMALLEST_WEIGHT
        rows, columns = kept.nonzero()[:, 1:].unbind(dim=1)
        places, weights = rows * self.sharp_size[1] + columns, kernels[kept]
        counts = kept.sum(dim=(1, 2))
        starts = counts.cumsum(0) - counts
        flat = labels.flatten()
        ends = counts[flat].cumsum(0)
        # Entry after entry of the matrix: its pixel, and which weight of that pixel's kernel it is.
        pixel = torch.repeat_interleave(torch.arange(flat.numel(), device=flat.device), counts[flat])
        entry = torch.arange(pixel.numel(), device=flat.device) - (ends - counts[flat])[pixel] + starts[flat[pixel]]
        corner = pixel // self.size[1] * self.sharp_size[1] + pixel % self.size[1]
        # With 32-bit indices products are twice as fast.
        limits = functional.pad(ends, (1, 0)).to(torch.int32)
        shape = flat.numel(), self.sharp_size[0] * self.sharp_size[1]
        return torch.sparse_csr_tensor(
            limits, (corner + places[entry]).to(torch.int32), weights[entry], shape, check_invariants=False
        )

    def blur(self, sharp: Tensor) -> Tensor:
        """Apply the operator.

        Args:
            sharp: Shape (C, H + S - 1, W + S - 1), brightness in [0, 1].

        Returns:
            Shape (C, H, W), brightness in [0, 1].
        """
        return (self._forward @ sharp.flatten(1).T).T.reshape(-1, *self.size)

    def adjoint(self, blurred: Tensor) -> Tensor:
        """Apply the transposed operator.

        Args:
            blurred: Shape (C, H, W), of any value.

        Returns:
            Shape (C, H + S - 1, W + S - 1).
        """
        return (self._adjoint @ blurred.flatten(1).T).T.reshape(-1, *self.sharp_size)

    def pad(self, picture: Tensor) -> Tensor:
        """Enlarge a picture (C, H, W) of any value range to (C, H + S - 1, W + S - 1), its border repeated."""
        return functional.pad(picture[None], (self.radius,) * 4, mode="replicate")[0]

    def crop(self, sharp: Tensor) -> Tensor:
        """Cut the middle (C, H, W) out of a picture (C, H + S - 1, W + S - 1) of any value range."""
        return sharp[:, self.radius : self.radius + self.size[0], self.radius : self.radius + self.size[1]]


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], target: Tensor, start: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """Solve ``operator(x) = target`` for a symmetric, positive definite operator.

    Args:
        operator: Maps tensors to tensors of their shape.
        target: Right side, of any shape and value.
        start: First guess, of the same shape.
        iterations: Steps at most.
        tolerance: Ends when the norm of the residual is below this share of the target's.

    Returns:
        The solution ``x``, of the same shape.

    Example:
        >>> conjugate_gradients(lambda x: 2 * x, torch.ones(2), torch.zeros(2), iterations=5, tolerance=1e-6)
        tensor([0.5000, 0.5000])
    """
    solution, residual = start, target - operator(start)
    direction = residual
    energy = residual.square().sum()
    enough = tolerance**2 * target.square().sum()
    for _ in range(iterations):
        if energy <= enough:
            break
        image = operator(direction)
        step = energy / (direction * image).sum()
        solution, residual = solution + step * direction, residual - step * image
        previous, energy = energy, residual.square().sum()
        direction = residual + energy / previous * direction
    return solution


def deconvolve(
    blurred: Tensor,
    operator: BlurOperator,
    mixture: PatchMixture,
    sigma: float = 0.01,
    betas: Sequence[float] = (50, 100, 200, 400, 800, 1600, 3200),
    stride: int = 1,
    iterations: int = 15,
    tolerance: float = 1e-3,
    progress: bool = False,
) -> Tensor:
    """Remove known blur with the EPLL prior, by half-quadratic splitting.

    Minimizes ``|operator(x) - blurred|^2 / (2 sigma^2)`` minus the mean over the patches at a pixel of their log
    probabilities. Patches of their own, tied to those of ``x`` by ``beta / 2`` times the squared distance, take turns
    with ``x``: one step of the mixture, one linear system for each beta. With ``stride`` 1 that is EPLL, whose data
    term has the weight ``64 / sigma^2`` because it adds up the 64 patches at a pixel.

    Args:
        blurred: Shape (C, H, W), brightness in [0, 1].
        operator: The blur.
        mixture: The prior.
        sigma: Standard deviation of the noise in ``blurred``.
        betas: One for each turn.
        stride: Pixels between patches; every turn begins one pixel further, so that their grid leaves no traces.
        iterations: Steps of conjugate gradients in a turn, at most.
        tolerance: Share of the residual at which they end.
        progress: Show a progress bar.

    Returns:
        Shape (C, H, W), not clipped.

    Example:
        >>> operator = BlurOperator(torch.full((1, 3, 3), 1 / 9), torch.zeros(16, 16, dtype=torch.int64))
        >>> deconvolve(torch.rand(3, 16, 16), operator, PatchMixture.shipped(), stride=4).shape
        torch.Size([3, 16, 16])
    """
    sharp = operator.pad(blurred)
    evidence = operator.adjoint(blurred)
    for turn, beta in enumerate(tqdm(betas, desc="deconvolution", unit="turn", disable=not progress)):
        offset = turn % stride
        patches = mixture.denoise(sharp, 1 / beta, stride, (offset, offset))
        weight = beta * sigma**2

        def system(picture: Tensor, weight: float = weight) -> Tensor:
            return operator.adjoint(operator.blur(picture)) + weight * picture

        sharp = conjugate_gradients(system, evidence + weight * patches, sharp, iterations, tolerance)
    return operator.crop(sharp)
