"""PSNR and SSIM of rounded pictures against BasicSR's, and the three-dimensional SSIM against SciPy."""

import math

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric, calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from scipy.ndimage import gaussian_filter

from macr_plugin.data.synthesis.demo import PHOTO_FOLDER
from macr_plugin.errors import InputError
from macr_plugin.metrics import psnr_ssim
from macr_plugin.metrics.psnr_ssim import psnr, ssim_3d, ssim_per_channel, to_uint8

PHOTOS = {
    "astronaut.png": (187, 251),
    "chelsea.png": (300, 451),
    "coffee.png": (101, 57),
    "rocket.jpg": (11, 640),
    "motorcycle_left.png": (333, 11),
    "motorcycle_right.png": (64, 96),
    "hubble_deep_field.jpg": (255, 129),
    "ihc.png": (512, 511),
}
PROTOCOLS = [(0, False), (4, False), (0, True), (3, True)]


def photograph(name, height=48, width=64):
    """Blurred and sharp crop, uint8 BGR."""
    sharp = cv2.imread(str(PHOTO_FOLDER / name))[:height, :width]
    assert sharp.shape == (height, width, 3)
    return cv2.GaussianBlur(sharp, (0, 0), 1.7), sharp


def as_batch(*pictures):
    """uint8 BGR arrays as a uint8 RGB batch."""
    return torch.stack([torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy()) for picture in pictures])


def reference_3d(first, second):
    """MATLAB's SSIM of a volume, in float64 by SciPy."""
    first, second = first.astype(np.float64), second.astype(np.float64)

    def window(volume):
        return gaussian_filter(volume, 1.5, mode="nearest", truncate=3.5)

    mean, other_mean = window(first), window(second)
    variance, other_variance = window(first**2) - mean**2, window(second**2) - other_mean**2
    covariance = window(first * second) - mean * other_mean
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean * other_mean + c1) / (mean**2 + other_mean**2 + c1)
    return (luminance * (2 * covariance + c2) / (variance + other_variance + c2)).mean()


@pytest.fixture(autouse=True)
def reduced_precision_allowed():
    """No convolution or product of matrices is involved, so that this must not matter."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_measure_as_in_basicsr(name):
    blurred, sharp = photograph(name, *PHOTOS[name])
    for crop_border, luma in PROTOCOLS:
        if min(PHOTOS[name]) < 11 + 2 * crop_border:
            continue
        protocol = {"crop_border": crop_border, "test_y_channel": luma}
        batch = as_batch(blurred), as_batch(sharp)
        assert psnr(*batch, **protocol).item() == pytest.approx(calculate_psnr(blurred, sharp, **protocol), abs=1e-6)
        assert ssim_per_channel(*batch, **protocol).item() == pytest.approx(
            calculate_ssim(blurred, sharp, **protocol), abs=1e-6
        )


@pytest.mark.parametrize("name", PHOTOS)
def test_three_dimensional_ssim_agrees_with_scipy(name):
    blurred, sharp = photograph(name, *PHOTOS[name])
    assert ssim_3d(as_batch(blurred), as_batch(sharp)).item() == pytest.approx(reference_3d(blurred, sharp), abs=1e-6)


def test_three_dimensional_ssim_of_pictures_smaller_than_the_window():
    blurred, sharp = photograph("coffee.png", 3, 5)
    assert ssim_3d(as_batch(blurred), as_batch(sharp)).item() == pytest.approx(reference_3d(blurred, sharp), abs=1e-6)


def test_three_dimensional_ssim_comes_out_higher_on_blurred_pictures():
    batch = [as_batch(picture) for picture in photograph("chelsea.png", 200, 300)]
    assert ssim_3d(*batch) > ssim_per_channel(*batch) + 0.01


@pytest.mark.parametrize("metric", [psnr, ssim_per_channel, ssim_3d])
@pytest.mark.parametrize("luma", [False, True])
def test_a_batch_gives_the_value_of_each_picture_whatever_its_memory_layout(metric, luma):
    blurred, sharp = photograph("chelsea.png")
    other = cv2.GaussianBlur(sharp, (0, 0), 0.6)
    expected = [metric(as_batch(one), as_batch(sharp), test_y_channel=luma).item() for one in (blurred, other)]
    for layout in (torch.contiguous_format, torch.channels_last):
        pictures = as_batch(blurred, other).contiguous(memory_format=layout)
        for targets in (as_batch(sharp), as_batch(sharp, sharp)):
            targets = targets.contiguous(memory_format=layout)
            assert metric(pictures, targets, test_y_channel=luma).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim_per_channel, ssim_3d])
def test_strips_of_any_height_give_the_same(metric, monkeypatch):
    batch = [as_batch(picture) for picture in photograph("astronaut.png", 61, 77)]
    expected = metric(*batch).item()
    for rows in (1, 7, 60):
        monkeypatch.setattr(psnr_ssim, "STRIP_PIXELS", 77 * rows)
        assert metric(*batch).item() == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_rounded_as_basicsr_saves_them(dtype):
    generator = torch.Generator().manual_seed(0)
    pictures = (torch.rand(1, 3, 16, 16, generator=generator) * 1.4 - 0.2).to(dtype)
    # Exactly between two bytes: 0.5 and 1.5 go to the even neighbour.
    pictures[0, 0, 0, :2] = torch.tensor([0.5 / 255, 1.5 / 255]).to(dtype)
    rounded = to_uint8(pictures)
    assert rounded.dtype == torch.uint8
    assert np.array_equal(rounded[0].flip(0).permute(1, 2, 0).numpy(), tensor2img(pictures))
    assert psnr(pictures, rounded).item() == math.inf
    assert to_uint8(rounded) is rounded


@pytest.mark.parametrize("level", [0, 255])
def test_equal_and_flat_pictures(level):
    flat = np.full((24, 24, 3), level, np.uint8)
    other = np.full((24, 24, 3), 128, np.uint8)
    assert psnr(as_batch(flat), as_batch(flat)).item() == math.inf == calculate_psnr(flat, flat, 0)
    for metric in (ssim_per_channel, ssim_3d):
        assert metric(as_batch(flat), as_batch(flat)).item() == 1
    assert psnr(as_batch(flat), as_batch(other)).item() == pytest.approx(calculate_psnr(flat, other, 0), abs=1e-9)
    assert ssim_per_channel(as_batch(flat), as_batch(other)).item() == pytest.approx(
        calculate_ssim(flat, other, 0), abs=1e-6
    )


def test_a_single_different_pixel_shows():
    """An error of one level in one of 2.8 million values, which a sum in float32 would lose."""
    sharp = np.full((720, 1280, 3), 200, np.uint8)
    changed = sharp.copy()
    changed[700, 1200, 1] += 1
    for luma in (False, True):
        value = psnr(as_batch(changed), as_batch(sharp), test_y_channel=luma).item()
        assert value == pytest.approx(calculate_psnr(changed, sharp, 0, test_y_channel=luma), abs=1e-6)


def test_registered_metrics_take_what_basicsr_gives():
    blurred, sharp = photograph("coffee.png")
    for name, reference in (
        ("calculate_psnr_on_device", calculate_psnr),
        ("calculate_ssim_on_device", calculate_ssim),
        ("calculate_ssim_3d", lambda first, second, _: reference_3d(first, second)),
    ):
        options = {"type": name, "crop_border": 0, "test_y_channel": False, "better": "higher"}
        value = calculate_metric({"img": blurred, "img2": sharp}, options)
        assert isinstance(value, float)
        assert value == pytest.approx(reference(blurred, sharp, 0), abs=1e-6)


def test_registered_metrics_know_other_orders_and_grey():
    blurred, sharp = photograph("coffee.png")
    metric = METRIC_REGISTRY.get("calculate_psnr_on_device")
    luma = metric(blurred, sharp, 2, test_y_channel=True)
    planes = (blurred.transpose(2, 0, 1), sharp.transpose(2, 0, 1))
    assert metric(*planes, 2, input_order="CHW", test_y_channel=True) == luma
    grey = blurred[..., 0], sharp[..., 0]
    assert metric(*grey, 2) == pytest.approx(calculate_psnr(*grey, 2), abs=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim_per_channel, ssim_3d])
def test_pictures_that_do_not_fit_are_refused(metric):
    pictures = torch.zeros(2, 3, 16, 16)
    with pytest.raises(InputError, match=r"shapes \(2, 3, 16, 16\) and \(2, 3, 16, 17\)"):
        metric(pictures, torch.zeros(2, 3, 16, 17))
    with pytest.raises(InputError, match="same shape"):
        metric(pictures[0], pictures[0])
    with pytest.raises(InputError, match="crop_border 8 leaves nothing of a picture of 16x16 px"):
        metric(pictures, pictures, crop_border=8)


def test_unusable_arrays_are_refused():
    metric = METRIC_REGISTRY.get("calculate_ssim_on_device")
    picture = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(InputError, match="float64: round it to uint8"):
        metric(picture.astype(float), picture, 0)
    with pytest.raises(InputError, match="input_order 'WHC': use HWC or CHW"):
        metric(picture, picture, 0, input_order="WHC")
    with pytest.raises(InputError, match="10x16 px is too small for SSIM"):
        metric(picture[:10], picture[:10], 0)


@pytest.mark.cuda
@pytest.mark.parametrize("metric", [psnr, ssim_per_channel, ssim_3d])
@pytest.mark.parametrize("luma", [False, True])
def test_a_gpu_gives_what_the_cpu_gives(metric, luma):
    batch = [as_batch(picture) for picture in photograph("ihc.png", 512, 511)]
    expected = metric(*batch, test_y_channel=luma).item()
    on_gpu = metric(*(pictures.cuda() for pictures in batch), test_y_channel=luma)
    assert on_gpu.is_cuda
    assert on_gpu.item() == pytest.approx(expected, abs=1e-6)
