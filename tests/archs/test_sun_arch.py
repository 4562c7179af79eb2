import inspect

import basicsr  # noqa: F401  registers the plugin
import numpy as np
import pytest
import skimage.data
import torch
from basicsr.archs import build_network
from torch.nn import functional

from macr_plugin.archs.motion_field import CANDIDATES, CLASSES
from macr_plugin.archs.sun_arch import SunMotionNet
from macr_plugin.errors import InputError
from macr_plugin.losses.motion_loss import MotionCrossEntropyLoss
from macr_plugin.visualization import motion_picture

SMALL = {"channels": [4, 4, 8]}


def photo(top, left, height, width):
    part = skimage.data.astronaut()[top : top + height, left : left + width]
    return torch.from_numpy(part.copy()).permute(2, 0, 1).float() / 255


def test_parameter_count():
    """Two convolutions, the fully connected layer over 4x4 places and the linear one, with biases."""
    expected = (3 * 49 + 1) * 96 + (96 * 25 + 1) * 256 + (256 * 16 + 1) * 1024 + (1024 + 1) * 73
    assert sum(parameter.numel() for parameter in SunMotionNet().parameters()) == expected == 4_899_017
    assert set(SunMotionNet(**SMALL).state_dict()) == {
        f"classifier.layers.{layer}.{name}" for layer in (0, 3, 6, 8) for name in ("weight", "bias")
    }


@torch.no_grad()
def test_autocast_leaves_the_deconvolution_in_float32(monkeypatch):
    """The classifier alone is what it makes faster: by the same motion field the same picture comes out."""
    net, pictures = SunMotionNet(**SMALL), photo(100, 200, 40, 48)[None]
    field, expected = net.motion_field(pictures[0]), net(pictures)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(pictures).dtype == torch.float32
        monkeypatch.setattr(net, "motion_field", lambda picture, progress: field)
        torch.testing.assert_close(net(pictures), expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(30, 30), (31, 45), (64, 33), (37, 53)])
@torch.no_grad()
def test_every_size_is_kept(size):
    torch.manual_seed(0)
    net = SunMotionNet(**SMALL)
    restored = net(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, *size)
    assert restored.isfinite().all()
    field = net.motion_field(torch.rand(3, *size))
    assert field.labels.shape == size
    assert field.vectors.shape == (*size, 2)
    torch.testing.assert_close(field.vectors, CANDIDATES.vectors().float()[field.labels])


def test_too_small_a_picture_is_refused():
    with pytest.raises(InputError, match="SunMotionNet needs pictures of at least 30x30 px and got 29x40"):
        SunMotionNet(**SMALL)(torch.rand(1, 3, 29, 40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [4, 8]}, "channels of SunMotionNet are three numbers"),
        ({"noise_sigma": 0}, "noise_sigma of SunMotionNet is above 0, not 0"),
        ({"evidence_weight": -1}, "evidence_weight of SunMotionNet is above 0, not -1"),
        ({"smoothness": -1}, "smoothness of SunMotionNet is 0 or more, not -1"),
        ({"patch_stride": 9}, "patch_stride of SunMotionNet is 1 to 8"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        SunMotionNet(**options)


@torch.no_grad()
def test_pictures_are_restored_one_by_one_and_alike():
    torch.manual_seed(0)
    net = build_network({"type": "SunMotionNet", **SMALL})
    pictures = torch.stack([photo(60, 200, 40, 48), photo(160, 140, 40, 48)])
    together = net(pictures)
    for number in range(2):
        assert torch.equal(net(pictures[number : number + 1])[0], together[number])


class Told(torch.nn.Module):
    """A classifier that knows the motion in the upright picture, which comes first, and nothing of the turned ones."""

    def __init__(self, label):
        super().__init__()
        self.label = label
        self.calls = 0

    def forward(self, pictures):
        logits = torch.zeros(1, 73, *((n - 22) // 8 for n in pictures.shape[2:]))
        if self.calls % 5 == 0:
            logits[:, self.label] = 9.0
        self.calls += 1
        return logits


@torch.no_grad()
def test_with_a_classifier_that_is_right_the_blur_goes():
    sharp = photo(30, 160, 120, 136)
    kernel = CLASSES.kernels()[CLASSES.index(11, 60)].float()
    blurred = functional.conv2d(sharp[:, None], kernel[None, None])[:, 0]
    net = SunMotionNet(**SMALL, noise_sigma=0.006)
    net.classifier = Told(CLASSES.index(11, 60))
    assert net.motion_field(blurred).labels.unique().tolist() == [CANDIDATES.index(11, 60)]
    restored = net(blurred[None])[0]
    before, after = ((picture - sharp[:, 12:-12, 12:-12]).square().mean() for picture in (blurred, restored))
    assert after < before / 2


@torch.no_grad()
def test_half_precision_stays_finite():
    torch.manual_seed(0)
    net = SunMotionNet(**SMALL).to(torch.bfloat16)
    restored = net(photo(60, 200, 40, 48)[None].to(torch.bfloat16))
    assert restored.dtype == torch.bfloat16
    assert restored.isfinite().all()


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    net = SunMotionNet(**SMALL)
    logits = net(torch.rand(6, 3, 30, 30), return_logits=True)
    loss = MotionCrossEntropyLoss()(logits, torch.arange(6))
    torch.testing.assert_close(loss, functional.cross_entropy(logits.flatten(1), torch.arange(6)))
    loss.backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_a_few_patches_can_be_learnt():
    """Two motions of one texture: told apart after a few steps."""
    torch.manual_seed(0)
    net = SunMotionNet(channels=[8, 8, 16])
    sharp = torch.rand(16, 3, 54, 54)
    labels = torch.tensor([CLASSES.index(15, 0), CLASSES.index(15, 90)]).repeat(8)
    kernels = CLASSES.kernels().float()[labels]
    patches = functional.conv2d(sharp.view(1, 48, 54, 54), kernels.repeat_interleave(3, 0)[:, None], groups=48)
    patches = patches.view(16, 3, 30, 30)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        MotionCrossEntropyLoss()(net(patches, return_logits=True), labels).backward()
        optimizer.step()
    assert (net(patches, return_logits=True).flatten(1).argmax(dim=1) == labels).all()


def test_progress_is_shown_where_it_is_asked_for(capsys):
    net = SunMotionNet(**SMALL)
    with torch.no_grad():
        net(torch.rand(1, 3, 30, 30))
        assert capsys.readouterr().err == ""
        net(torch.rand(1, 3, 30, 30), progress=True)
    shown = capsys.readouterr().err
    assert "motion: 100%" in shown
    assert "deconvolution: 100%" in shown


@torch.no_grad()
def test_the_extra_picture_is_the_motion_field_with_its_legend():
    torch.manual_seed(0)
    net = SunMotionNet(**SMALL)
    picture = photo(60, 200, 40, 48)
    (name, extra), *rest = net.extra_pictures(picture[None]).items()
    assert (name, rest) == ("motion field", [])
    drawn = motion_picture(net.motion_field(picture).vectors.numpy())
    assert np.array_equal((extra[0].permute(1, 2, 0).numpy() * 255).round(), drawn[..., ::-1])


def test_every_option_is_documented():
    parameters = list(inspect.signature(SunMotionNet).parameters)
    assert all(f"\n        {name}: " in SunMotionNet.__doc__ for name in parameters)
