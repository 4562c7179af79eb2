import pytest
import torch
from torch.nn import functional

from macr_plugin.losses.motion_loss import MotionCrossEntropyLoss


@pytest.mark.parametrize("shape", [(4, 73), (4, 73, 1, 1)])
@pytest.mark.parametrize(("weight", "smoothing"), [(1.0, 0.0), (0.5, 0.1)])
def test_cross_entropy_by_hand(shape, weight, smoothing):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 72, 5, 5])
    log_probabilities = logits.view(4, 73).log_softmax(dim=1)
    targets = (1 - smoothing) * functional.one_hot(labels, 73) + smoothing / 73
    expected = -weight * (targets * log_probabilities).sum(dim=1).mean()
    torch.testing.assert_close(MotionCrossEntropyLoss(weight, smoothing)(logits, labels), expected)


def test_half_precision_is_computed_in_float32():
    logits = torch.randn(4, 73, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    labels = torch.tensor([1, 2, 3, 4])
    loss = MotionCrossEntropyLoss()(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(logits.float(), labels))
