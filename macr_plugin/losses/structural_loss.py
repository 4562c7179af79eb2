"""The training loss of the paper (eq. 1-6): absolute error plus structural similarity at one and at several scales.

All losses take pictures of shape (N, C, H, W) in the range [0, 1], at least 11 px on each side, and compute in at least
float32 whatever autocast says. They are zero, with a zero gradient, exactly where prediction and target agree.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from macr_plugin.metrics.structural_similarity import at_least_float32, pyramid_similarity, ssim, structural_similarity

# Contrast terms at or below zero have no real power and no gradient, which would strand training on anti-correlated
# pictures; below this floor MS-SSIM goes on as a straight line instead. The terms of trained networks lie near 1.
_TERM_FLOOR = 1e-3


class MACRLoss(nn.Module):
    """The loss of the paper: ``0.3 * L_A + 0.7 * L_S`` (eq. 1).

    ``L_A`` is the mean absolute error (eq. 2), and ``L_S = (1 - SSIM) + (1 - MS-SSIM)`` (eq. 3, 5 and 6) with SSIM by
    eq. 4. SSIM and MS-SSIM come from one pass. MS-SSIM uses fewer levels on pictures below 161 px; see
    :func:`~macr_plugin.metrics.structural_similarity.level_count`. Below a floor of 0.001 its terms are continued by a
    straight line, so that anti-correlated pictures still have a gradient; see
    :func:`~macr_plugin.metrics.structural_similarity.structural_similarity`.

    Args:
        loss_weight: Factor of the whole loss.
        l1_weight: Factor of ``L_A``.
        structural_weight: Factor of ``L_S``.
        max_levels: The most levels MS-SSIM may use, from 1 to 5.

    Shape:
        Twice (N, C, H, W) in [0, 1] -> (), at least 0.

    Example:
        >>> picture = torch.rand(1, 3, 32, 32)
        >>> MACRLoss()(picture, picture)
        tensor(0.)
    """

    def __init__(
        self, loss_weight: float = 1.0, l1_weight: float = 0.3, structural_weight: float = 0.7, max_levels: int = 5
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.l1_weight = l1_weight
        self.structural_weight = structural_weight
        self.max_levels = max_levels

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar.

        Args:
            prediction: Pictures of shape (N, C, H, W) in the range [0, 1].
            target: Pictures of the same shape.

        Returns:
            The loss, averaged over the batch, in float32, or in float64 if an input is float64.

        Raises:
            InputError: If the shapes differ or are not four-dimensional, if a dtype is not floating, if a side is below
                11 px or if ``max_levels`` is not between 1 and 5.
        """
        return self.of_scales([prediction], [target])[0]

    def of_scales(self, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Return the losses of all scales at once, which takes a GPU far less time than one after the other.

        Args:
            predictions: S batches of the same pictures, (N, C, H_i, W_i) in the range [0, 1], of any sizes.
            targets: As many of the same shapes.

        Returns:
            Shape (S,), each as :meth:`forward` returns it.

        Raises:
            InputError: As :meth:`forward`.
        """
        similarity = pyramid_similarity(predictions, targets, max_levels=self.max_levels, floor=_TERM_FLOOR)
        structural = (1 - similarity.ssim).mean(1) + (1 - similarity.ms_ssim).mean(1)
        absolute = torch.stack(
            [
                (at_least_float32(prediction) - at_least_float32(target)).abs().mean()
                for prediction, target in zip(predictions, targets, strict=True)
            ]
        )
        return self.loss_weight * (self.l1_weight * absolute + self.structural_weight * structural)


class MACRSSIMLoss(nn.Module):
    """The single-scale structural loss alone: ``1 - SSIM`` with SSIM by eq. 4 of the paper.

    Args:
        loss_weight: Factor of the loss.

    Shape:
        Twice (N, C, H, W) in [0, 1] -> (), in [0, 2].

    Example:
        >>> picture = torch.rand(1, 3, 32, 32)
        >>> MACRSSIMLoss()(picture, picture)
        tensor(0.)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar.

        Args:
            prediction: Pictures of shape (N, C, H, W) in the range [0, 1].
            target: Pictures of the same shape.

        Returns:
            The loss, averaged over the batch, in float32, or in float64 if an input is float64.

        Raises:
            InputError: If the shapes differ or are not four-dimensional, if a dtype is not floating or if a side is
                below 11 px.
        """
        return self.loss_weight * (1 - ssim(prediction, target)).mean()


class MACRMSSSIMLoss(nn.Module):
    """The multi-scale structural loss alone: ``1 - MS-SSIM``, with MS-SSIM as in :class:`MACRLoss`.

    Args:
        loss_weight: Factor of the loss.
        max_levels: The most levels MS-SSIM may use, from 1 to 5.

    Shape:
        Twice (N, C, H, W) in [0, 1] -> (), at least 0.

    Example:
        >>> picture = torch.rand(1, 3, 32, 32)
        >>> MACRMSSSIMLoss()(picture, picture)
        tensor(0.)
    """

    def __init__(self, loss_weight: float = 1.0, max_levels: int = 5) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.max_levels = max_levels

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar.

        Args:
            prediction: Pictures of shape (N, C, H, W) in the range [0, 1].
            target: Pictures of the same shape.

        Returns:
            The loss, averaged over the batch, in float32, or in float64 if an input is float64.

        Raises:
            InputError: As :meth:`MACRLoss.forward`.
        """
        similarity = structural_similarity(prediction, target, max_levels=self.max_levels, floor=_TERM_FLOOR)
        return self.loss_weight * (1 - similarity.ms_ssim).mean()
