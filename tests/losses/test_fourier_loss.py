import numpy as np
import pytest
import torch
from basicsr.losses import build_loss

from macr_plugin.errors import InputError
from macr_plugin.losses.fourier_loss import MACRFourierLoss


def pictures(shape=(2, 3, 12, 17), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(shape, generator=generator, dtype=dtype) for _ in range(2))


def test_against_numpy():
    prediction, target = pictures()
    spectrum = np.fft.fft2((prediction - target).numpy(), norm="ortho")
    expected = 0.5 * (
        2 * np.abs((prediction - target).numpy()).mean()
        + 3 * (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2
    )
    loss = MACRFourierLoss(loss_weight=0.5, l1_weight=2, fourier_weight=3)(prediction, target)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_wave_costs_what_its_two_coefficients_do():
    """A cosine of amplitude ``a`` has two real coefficients of ``a * sqrt(H * W) / 2``."""
    wave = 0.25 * torch.cos(2 * torch.pi * 3 * torch.arange(16, dtype=torch.float64) / 16).expand(1, 1, 8, 16)
    loss = MACRFourierLoss(l1_weight=0)(wave, torch.zeros_like(wave))
    assert loss.item() == pytest.approx(2 * 0.25 * 128**0.5 / 2 / (2 * 128))


def test_gradient():
    prediction, target = pictures((1, 2, 5, 6))
    assert torch.autograd.gradcheck(MACRFourierLoss(), (prediction.requires_grad_(), target))
    (gradient,) = torch.autograd.grad(MACRFourierLoss()(target.requires_grad_(), target.detach()), target)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    prediction, target = pictures(dtype=torch.float32)
    loss = MACRFourierLoss()(prediction.to(dtype), target.to(dtype))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, MACRFourierLoss()(prediction.to(dtype).float(), target.to(dtype).float()))


def test_is_built_by_basicsr():
    assert isinstance(build_loss({"type": "MACRFourierLoss", "fourier_weight": 0.1}), MACRFourierLoss)


def test_shapes_must_agree():
    with pytest.raises(InputError, match=r"shapes \(2, 3, 12, 17\) and \(1, 3, 12, 17\) differ"):
        MACRFourierLoss()(torch.zeros(2, 3, 12, 17), torch.zeros(1, 3, 12, 17))
