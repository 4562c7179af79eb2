"""The renderer in torch against the one in NumPy and OpenCV."""

import pytest
import torch
from saved_pictures import textured
from torch.utils.data import default_collate

from macr_plugin.data.synthesis import torch_rendering
from macr_plugin.data.synthesis.blur_model import BlurModel, Shot
from macr_plugin.data.synthesis.paths import border_margin, draw_camera_path, generator_for
from macr_plugin.data.synthesis.rendering import render_pair
from macr_plugin.data.synthesis.torch_rendering import for_device, render_blur, with_rendered_blur
from macr_plugin.visualization import Box

HEIGHT, WIDTH = 48, 70
CPU = torch.device("cpu")


def to_tensor(picture):
    return torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy())


def batch(extents, margin, averaging="linear"):
    photos = [textured(HEIGHT + 2 * margin, WIDTH + 2 * margin, seed) for seed in range(len(extents))]
    shots = [
        Shot(draw_camera_path(generator_for(0, str(extent)), extent, 37), averaging=averaging) for extent in extents
    ]
    data = default_collate(
        [for_device(photo, shot, margin, BlurModel()) for photo, shot in zip(photos, shots, strict=True)]
    )
    return photos, shots, data


@pytest.mark.parametrize("averaging", ["linear", "encoded"])
def test_agrees_with_the_cpu_renderer(averaging):
    # Both interpolate cubically with a coefficient of -0.75. OpenCV 4 rounds positions to 1/32 pixel, which moves a few
    # per cent of the values by one level; OpenCV 5 does not, and what is left is rounding at a tie.
    margin = border_margin(30, HEIGHT, WIDTH)
    photos, shots, data = batch((0.0, 4.0, 12.0, 30.0), margin, averaging)
    rendered = render_blur(data, HEIGHT, WIDTH, CPU)
    assert rendered.dtype == torch.uint8
    for photo, shot, blur in zip(photos, shots, rendered, strict=True):
        expected, _ = render_pair(photo, shot, Box(margin, margin, HEIGHT, WIDTH))
        difference = (blur.int() - to_tensor(expected).int()).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 0.05


def test_response_tables_are_copied_to_a_device_once(monkeypatch):
    """From memory that is not pinned, so the host would wait for it in every batch."""
    torch_rendering._table_on.cache_clear()
    made = []
    original = torch_rendering.response_table
    monkeypatch.setattr(torch_rendering, "response_table", lambda name: made.append(name) or original(name))
    for averaging in ("linear", "encoded", "linear"):
        _, _, data = batch((0.0, 4.0), 8, averaging)
        render_blur(data, HEIGHT, WIDTH, CPU)
    assert made == ["linear", "encoded"]


def test_camera_at_rest_gives_the_sharp_picture():
    _, _, data = batch((0.0,), 5)
    assert torch.equal(render_blur(data, HEIGHT, WIDTH, CPU), data["photo"][..., 5:-5, 5:-5])


def test_subframes_at_once_change_nothing_but_rounding():
    _, _, data = batch((9.0, 3.0), 14)
    one, some, all_at_once = (
        render_blur(data, HEIGHT, WIDTH, CPU, subframes_at_once=number).int() for number in (1, 8, 37)
    )
    assert (one - some).abs().max() <= 1
    assert (one - all_at_once).abs().max() <= 1


def test_batch_that_is_blurred_already_is_left_alone():
    data = {"lq": torch.zeros(1, 3, 8, 8)}
    assert with_rendered_blur(data, torch.device("cpu")) is data


@pytest.mark.cuda
def test_gpu_agrees_with_the_cpu():
    _, _, data = batch((4.0, 12.0), 18)
    on_cpu = render_blur(data, HEIGHT, WIDTH, CPU).int()
    on_gpu = render_blur(data, HEIGHT, WIDTH, torch.device("cuda")).int().cpu()
    assert (on_cpu - on_gpu).abs().max() <= 1
