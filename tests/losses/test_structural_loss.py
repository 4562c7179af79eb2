"""The losses against their equations, and their gradients where the textbook form has none."""

from collections.abc import Callable

import numpy as np
import pytest
import pytorch_msssim
import torch
from skimage.metrics import structural_similarity as skimage_ssim
from torch import Tensor, nn
from torch.nn import functional

from macr_plugin.benchmark.measuring.operations import count_operations
from macr_plugin.errors import InputError
from macr_plugin.losses import MACRLoss, MACRMSSSIMLoss, MACRSSIMLoss

LOSSES = [MACRLoss, MACRSSIMLoss, MACRMSSSIMLoss]


def random_pictures(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def similar_pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    target = random_pictures(*shape, dtype=dtype)
    return 0.6 * target + 0.4 * target.flip(-1), target


def anti_correlated(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    target = random_pictures(*shape, dtype=dtype)
    return 0.9 - 0.8 * target, target


def flat_but_different(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.full(shape, 0.25, dtype=dtype), torch.full(shape, 0.75, dtype=dtype)


def saturated(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    target = (1.2 * random_pictures(*shape, dtype=dtype) + 0.6).clamp(0, 1)
    return torch.ones(shape, dtype=dtype), target


def unrelated(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return random_pictures(*shape, dtype=dtype).flip(-2), random_pictures(*shape, dtype=dtype)


def black_and_white(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.zeros(shape, dtype=dtype), torch.ones(shape, dtype=dtype)


PairMaker = Callable[[tuple[int, ...], torch.dtype], tuple[Tensor, Tensor]]
HARD_PAIRS = [anti_correlated, flat_but_different, saturated, unrelated, black_and_white]


def test_macr_loss_is_equation_1() -> None:
    prediction, target = similar_pair(2, 3, 177, 203, dtype=torch.float64)
    ssim = np.mean(
        [
            skimage_ssim(
                *pair,
                channel_axis=0,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for pair in zip(prediction.numpy(), target.numpy(), strict=True)
        ]
    )
    ms_ssim = pytorch_msssim.ms_ssim(prediction, target, data_range=1.0).item()
    absolute = np.abs(prediction.numpy() - target.numpy()).mean()
    expected = 0.3 * absolute + 0.7 * ((1 - ssim) + (1 - ms_ssim))

    # The window of pytorch_msssim is rounded to float32 even for float64 pictures.
    assert MACRLoss()(prediction, target).item() == pytest.approx(expected, abs=2e-6)
    assert MACRLoss()(prediction.float(), target.float()).item() == pytest.approx(expected, abs=2e-6)
    assert MACRSSIMLoss()(prediction, target).item() == pytest.approx(1 - ssim, abs=1e-10)
    assert MACRMSSSIMLoss()(prediction, target).item() == pytest.approx(1 - ms_ssim, abs=2e-6)


def test_one_level_macr_loss_of_flat_pictures_has_a_closed_form() -> None:
    prediction, target = flat_but_different((1, 3, 16, 16), torch.float64)
    luminance = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)

    assert MACRLoss()(prediction, target).item() == pytest.approx(0.3 * 0.5 + 0.7 * 2 * (1 - luminance), abs=1e-12)


def test_the_parts_of_macr_loss_have_their_own_weights() -> None:
    prediction, target = similar_pair(2, 3, 64, 64, dtype=torch.float64)
    absolute = (prediction - target).abs().mean()
    structural = MACRSSIMLoss()(prediction, target) + MACRMSSSIMLoss(max_levels=2)(prediction, target)

    loss = MACRLoss(l1_weight=0.5, structural_weight=0.25, max_levels=2)(prediction, target)
    torch.testing.assert_close(loss, 0.5 * absolute + 0.25 * structural)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_loss_weight_scales_the_loss(loss_class: type[nn.Module]) -> None:
    pair = similar_pair(2, 3, 64, 64)

    torch.testing.assert_close(loss_class(loss_weight=2.5)(*pair), 2.5 * loss_class()(*pair))


@pytest.mark.parametrize("loss_class", LOSSES)
def test_the_loss_is_the_mean_over_the_batch(loss_class: type[nn.Module]) -> None:
    prediction, target = similar_pair(3, 3, 64, 50, dtype=torch.float64)
    each = [loss_class()(prediction[index : index + 1], target[index : index + 1]) for index in range(3)]

    torch.testing.assert_close(loss_class()(prediction, target), torch.stack(each).mean())


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("make_pair", [unrelated, anti_correlated])
def test_gradients_agree_with_finite_differences(loss_class: type[nn.Module], make_pair: PairMaker) -> None:
    prediction, target = make_pair((1, 1, 12, 13), torch.float64)
    assert torch.autograd.gradcheck(loss_class(), (prediction.requires_grad_(), target.requires_grad_()))

    prediction, target = make_pair((1, 1, 24, 27), torch.float64)
    inputs = (prediction.requires_grad_(), target.requires_grad_())
    assert torch.autograd.gradcheck(loss_class(), inputs, fast_mode=True)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_gradients_of_colour_batches_agree_with_finite_differences(loss_class: type[nn.Module]) -> None:
    prediction, target = similar_pair(2, 3, 43, 47, dtype=torch.float64)

    assert torch.autograd.gradcheck(loss_class(), (prediction.requires_grad_(), target), fast_mode=True)


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("make_pair", HARD_PAIRS)
@pytest.mark.parametrize("side", [24, 64])
def test_gradients_are_finite_and_not_zero(loss_class: type[nn.Module], make_pair: PairMaker, side: int) -> None:
    prediction, target = make_pair((2, 3, side, side), torch.float32)
    loss = loss_class()(prediction.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(loss, prediction)

    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("make_pair", [anti_correlated, flat_but_different, saturated])
def test_gradient_descent_lowers_the_loss(loss_class: type[nn.Module], make_pair: PairMaker) -> None:
    prediction, target = make_pair((1, 3, 32, 32), torch.float32)
    # A faint texture gives the flat patches a direction, as the output of any network does.
    prediction = (prediction + 1e-3 * random_pictures(1, 3, 32, 32).flip(-1)).requires_grad_()
    optimizer = torch.optim.Adam([prediction], lr=0.01)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = loss_class()(prediction, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < losses[0] - 0.01
    assert losses == sorted(losses, reverse=True)


def test_anti_correlated_terms_are_pushed_up_at_every_level() -> None:
    # The textbook form has no gradient here: every power of a term clamped at 0 is flat.
    prediction, target = anti_correlated((1, 1, 41, 41), torch.float64)
    prediction.requires_grad_()
    loss = MACRMSSSIMLoss()(prediction, target)
    (gradient,) = torch.autograd.grad(loss, prediction)
    textbook = pytorch_msssim.ssim(prediction, target, data_range=1.0, nonnegative_ssim=True)

    assert textbook.item() == 0
    assert loss > 1
    assert (gradient * (target - prediction)).sum() < 0


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0, None])
def test_loss_and_gradient_are_exactly_zero_at_equality(loss_class: type[nn.Module], value: float | None) -> None:
    target = random_pictures(2, 3, 81, 83) if value is None else torch.full((2, 3, 81, 83), value)
    prediction = target.clone().requires_grad_()
    loss = loss_class()(prediction, target)
    (gradient,) = torch.autograd.grad(loss, prediction)

    assert loss.item() == 0
    assert gradient.abs().max().item() == 0


@pytest.mark.parametrize("loss_class", LOSSES)
def test_autocast_changes_neither_loss_nor_gradient(loss_class: type[nn.Module]) -> None:
    prediction, target = similar_pair(2, 3, 64, 64)
    prediction.requires_grad_()
    expected = loss_class()(prediction, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_class()(prediction, target)

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    gradients = [torch.autograd.grad(value, prediction)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_bfloat16_predictions_may_meet_float32_targets(loss_class: type[nn.Module]) -> None:
    prediction, target = similar_pair(2, 3, 64, 64)
    narrow = prediction.bfloat16().requires_grad_()
    loss = loss_class()(narrow, target)
    loss.backward()

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(loss_class()(narrow.detach().float(), target).item(), abs=1e-6)
    assert narrow.grad is not None
    assert narrow.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("loss_class", LOSSES)
def test_float64_stays_float64(loss_class: type[nn.Module]) -> None:
    loss = loss_class()(*similar_pair(1, 3, 32, 32, dtype=torch.float64))

    assert loss.dtype == torch.float64
    assert loss.shape == ()


@pytest.mark.parametrize("loss_class", LOSSES)
def test_different_shapes_are_refused_with_both_shapes(loss_class: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 32, 32\) and \(1, 1, 32, 32\)"):
        loss_class()(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize("loss_class", LOSSES)
def test_wrong_dimensions_and_tiny_pictures_are_refused(loss_class: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=r"\(3, 32, 32\)"):
        loss_class()(torch.rand(3, 32, 32), torch.rand(3, 32, 32))
    with pytest.raises(InputError, match="8x32 px"):
        loss_class()(torch.rand(1, 3, 8, 32), torch.rand(1, 3, 8, 32))


def scales_of(picture, sizes):
    return [functional.interpolate(picture, size=size, mode="bilinear", antialias=True) for size in sizes]


@pytest.mark.parametrize(
    "sizes", [[(96, 96), (48, 48), (24, 24)], [(97, 61), (49, 31), (25, 16)], [(40, 50), (200, 30)]]
)
def test_all_scales_at_once_are_each_scale_alone(sizes):
    """Values and gradients, in float64, for sizes that share levels and for others."""
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(2, 3, 210, 210, generator=generator, dtype=torch.float64)
    targets = scales_of(picture, sizes)
    noisy = [target + 0.1 * torch.rand(target.shape, generator=generator, dtype=torch.float64) for target in targets]
    together, alone = ([one.clone().requires_grad_() for one in noisy] for _ in range(2))
    loss = MACRLoss()
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)[: len(sizes)]
    losses = loss.of_scales(together, targets)
    (weights * losses).sum().backward()
    for weight, ours, other, target, value in zip(weights, together, alone, targets, losses, strict=True):
        expected = loss(other, target)
        (weight * expected).backward()
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.grad, other.grad, rtol=0, atol=1e-13)


def test_equal_scales_are_exactly_zero_without_a_gradient():
    targets = scales_of(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), [(64, 64), (32, 32)])
    predictions = [target.clone().requires_grad_() for target in targets]
    losses = MACRLoss().of_scales(predictions, targets)
    assert torch.equal(losses, torch.zeros(2))
    losses.sum().backward()
    assert all(torch.equal(one.grad, torch.zeros_like(one)) for one in predictions)


def test_the_losses_of_a_step_are_few_operations(monkeypatch):
    """Three scales of 256 crops took 1,486, forward and backward, when each level was filtered by itself."""
    # As on a GPU: a processor takes the pictures of a batch one after the other.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    generator = torch.Generator().manual_seed(0)
    targets = [torch.rand(2, 3, side, side, generator=generator) for side in (256, 128, 64)]
    predictions = [torch.rand(2, 3, side, side, generator=generator).requires_grad_() for side in (256, 128, 64)]
    loss = MACRLoss()
    assert count_operations(lambda: loss.of_scales(predictions, targets).sum().backward()) < 1486 / 4
