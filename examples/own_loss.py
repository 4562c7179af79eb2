"""A loss of your own in BasicSR, here for the network MACR.

macr synthesize --demo
python -m macr_plugin.train --import examples/own_loss.py -opt examples/own_loss.yml
"""

from __future__ import annotations

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn


@LOSS_REGISTRY.register()
class GradientLoss(nn.Module):
    """Mean absolute error of pictures and of their differences between neighbouring pixels, which blur makes small.

    Args:
        loss_weight: Factor of the whole loss.
        gradient_weight: Factor of the differences.

    Shape:
        Twice (N, C, H, W) in [0, 1] -> (), at least 0.
    """

    def __init__(self, loss_weight: float = 1.0, gradient_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.gradient_weight = gradient_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare restored pictures with sharp ones; the model calls this once for every scale."""
        # In float32 even where the network runs in bfloat16: differences of neighbours are small.
        error = prediction.float() - target.float()
        gradients = torch.diff(error, dim=-1).abs().mean() + torch.diff(error, dim=-2).abs().mean()
        return self.loss_weight * (error.abs().mean() + self.gradient_weight * gradients)
