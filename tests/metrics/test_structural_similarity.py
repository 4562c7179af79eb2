"""SSIM against scikit-image, MS-SSIM against pytorch_msssim, both references in float64."""

import numpy as np
import pytest
import pytorch_msssim
import torch
from skimage import data, filters
from skimage.metrics import structural_similarity as skimage_ssim

from macr_plugin.errors import InputError
from macr_plugin.metrics.structural_similarity import level_count, pyramid_similarity, ssim, structural_similarity

SIZE = 96
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def reference_ssim(prediction: torch.Tensor, target: torch.Tensor) -> float:
    """SSIM of one (C, H, W) pair, by scikit-image in float64."""
    return skimage_ssim(
        prediction.double().numpy(),
        target.double().numpy(),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def flat(level: float) -> np.ndarray:
    return np.full((SIZE, SIZE), level)


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate((left[:, : SIZE // 2], right[:, SIZE // 2 :]), axis=1)


def synthetic_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    uniform, other = rng.random((2, SIZE, SIZE))
    first_noise, second_noise = rng.standard_normal((2, SIZE, SIZE))
    rows, columns = np.indices((SIZE, SIZE))
    checkers = (rows // 16 + columns // 16) % 2
    pairs = {
        "independent noise": (uniform, other),
        "correlated noise": (uniform, np.clip(uniform + 0.1 * first_noise, 0, 1)),
        "anti-correlated noise": (uniform, 1 - uniform),
        "flat, far apart": (flat(0.2), flat(0.8)),
        "flat, nearly equal": (flat(0.9), flat(0.900001)),
        "flat, equal": (flat(1.0), flat(1.0)),
        "black against white": (flat(0.0), flat(1.0)),
        "halves swapped": (beside(flat(0.2), flat(0.8)), beside(flat(0.8), flat(0.2))),
        "checkers swapped": (0.1 + 0.8 * checkers, 0.7 - 0.5 * checkers),
        "crossing ramps": (columns / (SIZE - 1), rows / (SIZE - 1)),
        "bright flat beside noise": (beside(flat(0.97), uniform), beside(flat(0.965), other)),
        "dark flat beside noise": (beside(flat(0.03), uniform), beside(flat(0.25), 0.9 * uniform)),
        "nearly saturated": (np.clip(0.98 + 0.05 * first_noise, 0, 1), np.clip(0.98 + 0.05 * second_noise, 0, 1)),
    }
    for amplitude in (1e-4, 1e-3, 1e-2):
        pairs[f"bright with noise of {amplitude}"] = (0.95 + amplitude * first_noise, 0.95 + amplitude * second_noise)
        pairs[f"halves swapped with noise of {amplitude}"] = (
            beside(flat(0.2), flat(0.8)) + amplitude * first_noise,
            beside(flat(0.8), flat(0.2)) + amplitude * second_noise,
        )
    return pairs


PAIRS = synthetic_pairs()


def photograph(name: str, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A blurred and a sharp (3, H, W) crop in float32."""
    sharp = getattr(data, name)()[20 : 20 + height, 60 : 60 + width] / 255
    blurred = filters.gaussian(sharp, 2, channel_axis=-1)
    return torch.from_numpy(blurred).permute(2, 0, 1).float(), torch.from_numpy(sharp).permute(2, 0, 1).float()


def random_pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    target = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    noise = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    return 0.7 * target + 0.3 * noise, target


def reference_ms_ssim(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of (N, 3, H, W) pairs, by pytorch_msssim in float64 with a window that is float64 as well."""
    window = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    window = (window / window.sum()).expand(3, 1, 1, 11)
    return pytorch_msssim.ms_ssim(prediction.double(), target.double(), data_range=1.0, size_average=False, win=window)


@pytest.mark.parametrize("name", PAIRS)
def test_float32_ssim_agrees_with_skimage_on_synthetic_pairs(name: str) -> None:
    prediction, target = (torch.from_numpy(picture.astype(np.float32))[None] for picture in PAIRS[name])

    assert ssim(prediction[None], target[None]).item() == pytest.approx(reference_ssim(prediction, target), abs=2e-6)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_float32_ssim_agrees_with_skimage_on_photographs(name: str) -> None:
    prediction, target = photograph(name, 201, 256)

    assert ssim(prediction[None], target[None]).item() == pytest.approx(reference_ssim(prediction, target), abs=1e-6)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (33, 57), (64, 65)])
def test_ssim_gives_one_value_per_picture_at_any_size(size: tuple[int, int]) -> None:
    prediction, target = random_pair(*size)

    expected = [reference_ssim(*pair) for pair in zip(prediction, target, strict=True)]
    assert ssim(prediction, target).tolist() == pytest.approx(expected, abs=1e-10)


def test_data_range_scales_the_constants() -> None:
    prediction, target = random_pair(40, 40)

    scaled = structural_similarity(255 * prediction, 255 * target, data_range=255)
    plain = structural_similarity(prediction, target)
    torch.testing.assert_close(scaled.ssim, plain.ssim)
    torch.testing.assert_close(scaled.ms_ssim, plain.ms_ssim)


@pytest.mark.parametrize("size", [(176, 176), (177, 203), (192, 179)])
def test_ms_ssim_agrees_with_pytorch_msssim(size: tuple[int, int]) -> None:
    prediction, target = random_pair(*size)

    expected = reference_ms_ssim(prediction, target)
    result = structural_similarity(prediction, target)
    torch.testing.assert_close(result.ms_ssim, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(result.ssim, ssim(prediction, target))


def test_ms_ssim_counts_negative_terms_as_zero_like_pytorch_msssim() -> None:
    _, target = random_pair(176, 176)
    prediction = torch.cat((1 - target[:, :1], target[:, 1:]), dim=1)

    expected = reference_ms_ssim(prediction, target)
    torch.testing.assert_close(structural_similarity(prediction, target).ms_ssim, expected, rtol=0, atol=1e-10)


def test_float32_ms_ssim_agrees_with_float64_pytorch_msssim_on_a_photograph() -> None:
    prediction, target = (picture[None] for picture in photograph("coffee", 223, 301))

    expected = reference_ms_ssim(prediction, target).item()
    assert structural_similarity(prediction, target).ms_ssim.item() == pytest.approx(expected, abs=5e-7)


def test_a_floor_below_all_terms_changes_nothing() -> None:
    prediction, target = random_pair(176, 176)

    plain = structural_similarity(prediction, target)
    torch.testing.assert_close(structural_similarity(prediction, target, floor=1e-3).ms_ssim, plain.ms_ssim)


@pytest.mark.parametrize(
    ("shorter", "levels"),
    [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (80, 3), (81, 4), (160, 4), (161, 5), (2000, 5)],
)
def test_level_rule(shorter: int, levels: int) -> None:
    assert level_count(shorter, 3000) == level_count(3000, shorter) == levels
    assert level_count(shorter, 3000, max_levels=2) == min(levels, 2)


def direct_terms(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean SSIM and mean contrast term of two (H, W) pictures, by the definition, window by window."""
    weights = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    first, second = (np.lib.stride_tricks.sliding_window_view(picture, (11, 11)) for picture in (first, second))
    first_mean, second_mean = (np.sum(weights * windows, axis=(-2, -1)) for windows in (first, second))
    first, second = first - first_mean[..., None, None], second - second_mean[..., None, None]
    covariance = np.sum(weights * first * second, axis=(-2, -1))
    variances = np.sum(weights * (first**2 + second**2), axis=(-2, -1))
    contrast = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    luminance = (2 * first_mean * second_mean + 0.01**2) / (first_mean**2 + second_mean**2 + 0.01**2)
    return float((luminance * contrast).mean()), float(contrast.mean())


def halve(picture: np.ndarray) -> np.ndarray:
    padded = np.pad(picture, [(side % 2, side % 2) for side in picture.shape])
    height, width = (side // 2 for side in padded.shape)
    return padded[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))


@pytest.mark.parametrize(
    ("shorter", "levels"), [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (80, 3), (81, 4), (160, 4), (161, 5)]
)
def test_small_pictures_use_fewer_levels_with_rescaled_weights(shorter: int, levels: int) -> None:
    prediction, target = (pictures[:1, :1] for pictures in random_pair(shorter, shorter + 5))
    first, second = prediction[0, 0].numpy(), target[0, 0].numpy()
    weights = np.array(WEIGHTS[:levels])
    if levels < 5:
        weights /= weights.sum()
    expected = 1.0
    for level in range(levels):
        whole, contrast = direct_terms(first, second)
        expected *= (whole if level == levels - 1 else contrast) ** weights[level]
        first, second = halve(first), halve(second)

    assert structural_similarity(prediction, target).ms_ssim.item() == pytest.approx(expected, abs=1e-10)


def test_one_level_of_flat_pictures_has_the_closed_form_of_the_luminance_term() -> None:
    first, second = torch.full((1, 3, 11, 11), 0.2), torch.full((1, 3, 11, 11), 0.8)

    result = structural_similarity(first, second)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert result.ssim.item() == pytest.approx(expected, abs=1e-6)
    assert result.ms_ssim.item() == pytest.approx(expected, abs=1e-6)


def test_one_level_equals_ssim_and_below_the_floor_its_straight_line() -> None:
    first, second = random_pair(20, 20)
    result = structural_similarity(first, second)
    torch.testing.assert_close(result.ms_ssim, result.ssim)

    floor = 1e-3
    lowered = structural_similarity(1 - second, second, floor=floor)
    assert (lowered.ssim < 0).all()
    # One level has the weight 1, so the line below the floor is the term itself.
    torch.testing.assert_close(lowered.ms_ssim, lowered.ssim)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, None])
def test_equal_pictures_score_exactly_one(value: float | None) -> None:
    picture = torch.rand(2, 3, 97, 83) if value is None else torch.full((2, 3, 97, 83), value)

    result = structural_similarity(picture, picture.clone())
    assert result.ssim.tolist() == [1, 1]
    assert result.ms_ssim.tolist() == [1, 1]


@pytest.mark.parametrize("size", [(10, 64), (64, 10)])
def test_too_small_pictures_are_refused_with_the_size_and_the_minimum(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size)

    with pytest.raises(InputError, match=rf"{size[0]}x{size[1]} px.*at least 11 px"):
        structural_similarity(picture, picture)


@pytest.mark.parametrize("max_levels", [0, 6])
def test_impossible_level_counts_are_refused(max_levels: int) -> None:
    with pytest.raises(InputError, match=f"max_levels is {max_levels}.*1 to 5"):
        structural_similarity(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), max_levels=max_levels)


def test_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 32, 32\) and \(1, 3, 32, 33\)"):
        ssim(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 33))


def test_pictures_without_a_batch_dimension_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 32, 32\).*\(N, C, H, W\)"):
        ssim(torch.rand(3, 32, 32), torch.rand(3, 32, 32))


def test_integer_pictures_are_refused() -> None:
    picture = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    with pytest.raises(InputError, match=r"torch\.uint8.*floating point"):
        ssim(picture, picture)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    prediction, target = (pictures.to(dtype) for pictures in random_pair(48, 48))

    result = structural_similarity(prediction, target)
    expected = structural_similarity(prediction.float(), target.float())
    assert result.ssim.dtype == result.ms_ssim.dtype == torch.float32
    assert torch.equal(result.ssim, expected.ssim)
    assert torch.equal(result.ms_ssim, expected.ms_ssim)


def test_float64_stays_float64() -> None:
    result = structural_similarity(*random_pair(48, 48))

    assert result.ssim.dtype == result.ms_ssim.dtype == torch.float64


def test_channels_last_pictures_give_the_same_values() -> None:
    prediction, target = random_pair(48, 51)

    result = structural_similarity(
        prediction.to(memory_format=torch.channels_last), target.to(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(result.ms_ssim, structural_similarity(prediction, target).ms_ssim)


def test_ssim_gradient_agrees_with_the_definition() -> None:
    # The gradient of the direct, unfiltered definition, by autograd through windows laid out one by one.
    prediction, target = (pictures[:1, :1] for pictures in random_pair(24, 27))
    offsets = torch.arange(11, dtype=torch.float64) - 5
    weights = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    weights = (torch.outer(weights, weights) / weights.sum() ** 2).flatten()[:, None]
    prediction.requires_grad_()
    first, second = (torch.nn.functional.unfold(pictures, 11) for pictures in (prediction, target))
    first_mean, second_mean = ((weights * windows).sum(1, keepdim=True) for windows in (first, second))
    first, second = first - first_mean, second - second_mean
    contrast = (2 * (weights * first * second).sum(1) + 9e-4) / ((weights * (first**2 + second**2)).sum(1) + 9e-4)
    luminance = (2 * first_mean * second_mean + 1e-4) / (first_mean**2 + second_mean**2 + 1e-4)
    (expected,) = torch.autograd.grad((luminance[:, 0] * contrast).mean(), prediction)

    (gradient,) = torch.autograd.grad(ssim(prediction, target).mean(), prediction)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    single = prediction.detach().float().requires_grad_()
    (gradient,) = torch.autograd.grad(ssim(single, target.float()).mean(), single)
    assert (gradient.double() - expected).abs().max() < 1e-5 * expected.abs().max()


def test_precision_settings_are_left_alone() -> None:
    prediction, target = (pictures.float().requires_grad_() for pictures in random_pair(48, 48))
    before = torch.backends.cudnn.allow_tf32

    structural_similarity(prediction, target).ms_ssim.sum().backward()
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_batch_at_once_and_its_pictures_one_after_the_other_agree_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU and a compiler get the whole batch, a processor what fits into its cache."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(176, 90), (88, 45)]
    predictions = [torch.rand(3, 2, *size, generator=generator).requires_grad_() for size in sizes]
    targets = [torch.rand(3, 2, *size, generator=generator) for size in sizes]

    def values_and_gradients() -> list[torch.Tensor]:
        similarity = pyramid_similarity(predictions, targets)
        total = (similarity.ssim + similarity.ms_ssim.square()).sum()
        return [similarity.ssim, similarity.ms_ssim, *torch.autograd.grad(total, predictions)]

    one_by_one = values_and_gradients()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for ours, at_once in zip(one_by_one, values_and_gradients(), strict=True):
        assert torch.equal(ours, at_once)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tf32_does_not_touch_values_or_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    reference, target = (pictures.requires_grad_() for pictures in random_pair(176, 180))
    on_gpu = reference.detach().float().cuda().requires_grad_()

    expected = structural_similarity(reference, target.detach())
    result = structural_similarity(on_gpu, target.detach().float().cuda())
    torch.testing.assert_close(result.ssim.cpu().double(), expected.ssim, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.ms_ssim.cpu().double(), expected.ms_ssim, rtol=0, atol=1e-6)
    (wanted,) = torch.autograd.grad(expected.ms_ssim.sum(), reference)
    (gradient,) = torch.autograd.grad(result.ms_ssim.sum(), on_gpu)
    assert (gradient.cpu().double() - wanted).abs().max() < 1e-5 * wanted.abs().max()
