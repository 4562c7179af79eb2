"""A training loss in the frequency domain, for networks that leave a blurred picture's fine detail behind."""

import torch
from torch import Tensor, nn

from macr_plugin.errors import InputError
from macr_plugin.metrics.structural_similarity import at_least_float32


class MACRFourierLoss(nn.Module):
    """Mean absolute error of pictures plus that of their spectra: ``l1_weight * L_A + fourier_weight * L_F``.

    ``L_F = mean(|Re(F(x) - F(y))| + |Im(F(x) - F(y))|) / 2`` with the orthonormal two-dimensional Fourier transform
    ``F`` of each channel. It is the frequency term of MIMO-UNet (Cho et al., 2021), which adds a tenth of it, at each
    scale, to the absolute error; their transform is not normalised, so that their factor depends on the crop's size.
    This one weighs the same at every size. It is no part of the MACR paper.

    Args:
        loss_weight: Factor of the whole loss.
        l1_weight: Factor of ``L_A``, the mean absolute error.
        fourier_weight: Factor of ``L_F``.

    Shape:
        Twice (N, C, H, W) in [0, 1] -> (), at least 0.

    Example:
        >>> MACRFourierLoss(fourier_weight=0)(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5))
        tensor(0.5000)
    """

    def __init__(self, loss_weight: float = 1.0, l1_weight: float = 1.0, fourier_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.l1_weight = l1_weight
        self.fourier_weight = fourier_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar.

        Args:
            prediction: Pictures of shape (N, C, H, W) in the range [0, 1].
            target: Pictures of the same shape.

        Returns:
            The loss, averaged over the batch, in float32, or in float64 if an input is float64.

        Raises:
            InputError: If the shapes differ.
        """
        if prediction.shape != target.shape:
            raise InputError(f"shapes {tuple(prediction.shape)} and {tuple(target.shape)} differ")
        difference = at_least_float32(prediction) - at_least_float32(target)
        spectrum = torch.view_as_real(torch.fft.fft2(difference, norm="ortho"))
        return self.loss_weight * (
            self.l1_weight * difference.abs().mean() + self.fourier_weight * spectrum.abs().mean()
        )
