import basicsr  # noqa: F401  registers the plugin
import cv2
import numpy as np
import pytest
import skimage.data
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img
from made_up_results import frame_quality
from skimage.metrics import structural_similarity

from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.measuring.quality import compare, measure_frames, protocol_id, restore_with, summarise
from macr_plugin.benchmark.options import Entry, Protocol
from macr_plugin.benchmark.results import Interval
from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.inference.restorer import Restorer

CPU = torch.device("cpu")


@pytest.fixture
def pictures():
    """A sharp and a restored picture, (1, 3, H, W), the restored one between two uint8 values and beyond white."""
    photo = torch.from_numpy(skimage.data.astronaut()[:60, :75].copy()).permute(2, 0, 1)[None] / 255
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    return photo, photo + 0.05 * noise


@pytest.mark.parametrize("test_y_channel", [False, True])
@pytest.mark.parametrize("crop_border", [0, 5])
def test_rounded_figures_are_those_of_basicsr(pictures, crop_border, test_y_channel):
    sharp, restored = pictures
    measured = compare("a/1", restored.clamp(0, 1), sharp, Protocol(crop_border, test_y_channel))
    arguments = (tensor2img([restored]), tensor2img([sharp]), crop_border)
    assert measured.psnr == pytest.approx(calculate_psnr(*arguments, test_y_channel=test_y_channel), abs=1e-4)
    assert measured.figures["ssim"] == pytest.approx(
        calculate_ssim(*arguments, test_y_channel=test_y_channel), abs=1e-4
    )


def test_unrounded_figures_are_those_of_skimage(pictures):
    sharp, restored = pictures
    measured = compare("a/1", restored, sharp, Protocol(3, rounding="float"))
    first, second = (picture[0, :, 3:-3, 3:-3].permute(1, 2, 0).double().numpy() for picture in (restored, sharp))
    assert measured.psnr == pytest.approx(-10 * np.log10(np.mean((first - second) ** 2)), abs=1e-6)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, full = structural_similarity(first, second, channel_axis=2, full=True, **settings)
    assert measured.figures["ssim"] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-4)
    assert 0 < measured.figures["ssim_3d"] < 1


@pytest.mark.parametrize("rounding", ["uint8", "float"])
def test_the_figures_of_a_frame_are_read_at_once(pictures, monkeypatch, rounding):
    """Each read makes the host wait for the GPU."""
    sharp, restored = pictures
    reads = []
    for name in ("item", "tolist", "cpu", "__float__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, original=original, name=name: reads.append(name) or original(self)
        )
    compare("a/1", restored.clamp(0, 1), sharp, Protocol(rounding=rounding))
    assert reads == ["tolist"]


def test_restored_in_the_fastest_layout_of_the_device(pictures):
    seen = []
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].stride()[1]))
    restore_with(Restorer(network), Entry("x"), CPU)(pictures[0])
    assert seen == [1], "channels last"
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("entry", "protocol", "blur", "name"),
    [
        (Entry("x"), Protocol(), "blur", "blur/full/uint8/rgb/mean"),
        (Entry("x", tlc=True), Protocol(), "blur_gamma", "blur_gamma/full-tlc/uint8/rgb/mean"),
        (Entry("x", tile=Tile(256, 16)), Protocol(4, True), "blur", "blur/tile256-16/uint8/y/border4/mean"),
        (Entry("x"), Protocol(rounding="float"), "blur", "blur/full/float/rgb/mean"),
    ],
)
def test_protocols_are_named(entry, protocol, blur, name):
    assert protocol_id(entry, protocol, blur) == name


def test_frames_are_measured_in_order_and_chosen_ones_written(working_folder):
    options = {"phase": "test", "dataroot": "pairs", "io_backend": {"type": "disk"}, "uint8": True}
    dataset = DeblurPairDataset(options)
    chosen = working_folder / "out" / "picture.png"
    frames = measure_frames(
        lambda blurred: blurred, dataset, Protocol(), CPU, pictures={"scene1/000002": chosen}, workers=1
    )
    assert [frame.key for frame in frames] == ["scene0/000000", "scene0/000001", "scene1/000002", "scene1/000003"]
    for frame in frames:
        scene, number = frame.key.split("/")
        blurred, sharp = (cv2.imread(f"pairs/{scene}/{name}/{number}.png") for name in ("blur", "sharp"))
        assert frame.psnr == pytest.approx(calculate_psnr(blurred, sharp, 0), abs=1e-4)
        assert frame.figures["ssim"] == pytest.approx(calculate_ssim(blurred, sharp, 0), abs=1e-4)
    assert np.array_equal(cv2.imread(str(chosen)), cv2.imread("pairs/scene1/blur/000002.png"))
    assert [path.name for path in chosen.parent.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_and_pictures_have_the_precision(precision, dtype):
    seen = []

    class Looks(torch.nn.Conv2d):
        def forward(self, x):
            seen.append((x.dtype, self.weight.dtype, torch.is_grad_enabled()))
            return super().forward(x)

    restore = restore_with(Restorer(Looks(3, 3, 1)), Entry("x", precision=precision), CPU)
    restore(torch.rand(1, 3, 4, 4))
    assert seen == [(dtype, dtype, False)]


def test_a_summary_has_the_means_and_intervals_over_scenes():
    frames = [frame_quality(f"{scene}/{number}", value) for scene, number, value in [("a", 1, 20.0), ("b", 1, 30.0)]]
    quality = summarise("blur/full/uint8/rgb/mean", frames)
    assert quality.psnr.mean == 25
    # Of two scenes a quarter of the draws holds one only, and a quarter the other.
    assert (quality.psnr.low, quality.psnr.high) == (20, 30)
    assert quality.figures["ssim"] == Interval(0.5, 0.5, 0.5)
