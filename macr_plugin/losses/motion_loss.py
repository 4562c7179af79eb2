"""The training loss of a network that tells by which motion a patch was blurred."""

from torch import Tensor, nn
from torch.nn import functional

from macr_plugin.metrics.structural_similarity import at_least_float32


class MotionCrossEntropyLoss(nn.Module):
    """Cross-entropy between the logits of motions and the true ones, computed in at least float32.

    Args:
        loss_weight: Factor of the loss.
        label_smoothing: Probability that the target leaves to all motions alike, from 0 to 1.

    Shape:
        Logits (N, K), labels (N,) -> (), at least 0.

    Example:
        >>> import torch
        >>> MotionCrossEntropyLoss()(torch.zeros(2, 73), torch.tensor([4, 70])).exp()
        tensor(73.0000)
    """

    def __init__(self, loss_weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compare logits with the truth.

        Args:
            logits: Shape (N, K) or (N, K, 1, 1), of any value.
            labels: Number of the true motion of each patch, shape (N,), int64.

        Returns:
            The mean over the patches, a scalar of at least 0.
        """
        logits = at_least_float32(logits.flatten(1))
        return self.loss_weight * functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
