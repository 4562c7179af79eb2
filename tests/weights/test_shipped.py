"""Shipped weights: the very files, what they say about themselves, and what they do."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from basicsr.utils.registry import ARCH_REGISTRY

from macr_plugin.data.synthesis.demo import PHOTO_FOLDER, write_demo
from macr_plugin.errors import InputError
from macr_plugin.weights import shipped
from macr_plugin.weights.checkpoint import load_weights
from macr_plugin.weights.shipped import SHIPPED, find_shipped, read_card, shipped_names

REPOSITORY = Path(__file__).parents[2]


def restore(network, picture):
    """Restore a picture, uint8 BGR, as a whole; the result is rounded to uint8."""
    x = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        restored = network(x)[0].clamp(0, 1)
    return (restored * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]


@pytest.fixture(scope="module", params=shipped_names())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name):
    options = dict(read_card(name)["network_g"])
    network = ARCH_REGISTRY.get(options.pop("type"))(**options)
    load_weights(network, name)
    return network.eval()


@pytest.fixture(scope="module")
def demo_pairs(tmp_path_factory):
    """Blurred and sharp picture of the demo's test pairs."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(folder)
    blurred = sorted((folder / "test").glob("*/blur/*.png"))
    return [(cv2.imread(str(path)), cv2.imread(str(path).replace("blur", "sharp"))) for path in blurred]


def test_the_files_are_those_that_were_shipped():
    folder = Path(shipped.__file__).parent
    assert {path.name for path in folder.glob("*.safetensors")} == {weights.file for weights in SHIPPED.values()}
    for weights in SHIPPED.values():
        assert hashlib.sha256((folder / weights.file).read_bytes()).hexdigest() == weights.sha256
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 10e6


def test_the_card_names_the_checksum_and_the_data(name):
    card = (REPOSITORY / "docs" / "weights.md").read_text()
    assert SHIPPED[name].sha256 in card
    about = read_card(name)
    assert {"network_g", "options", "data", "recipe", "licence", "figures"} == set(about)
    assert about["options"]["network_g"] == about["network_g"]
    assert "not GoPro weights" in card


def test_no_weight_is_lost_in_half_precision(network):
    values = torch.cat([value.flatten() for value in network.state_dict().values()])
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert torch.equal(values, values.half().float())


def test_the_figures_of_the_card(network, name, demo_pairs):
    figures = read_card(name)["figures"]["demo"]
    gains = []
    for blurred, sharp in demo_pairs:
        before, after = (calculate_psnr(each, sharp, crop_border=0) for each in (blurred, restore(network, blurred)))
        gains.append(after - before)
    assert len(gains) == figures["pairs"]
    assert np.mean(gains) == pytest.approx(figures["psnr"] - figures["psnr_blurred"], abs=0.02)
    assert min(gains) > -0.3


@pytest.mark.parametrize("photo", ["chelsea.png", "coffee.png"])
def test_what_is_sharp_is_hardly_changed(network, photo):
    sharp = cv2.imread(str(PHOTO_FOLDER / photo))
    assert calculate_psnr(restore(network, sharp), sharp, crop_border=0) > 38


def test_other_names_are_not_shipped():
    assert find_shipped("macr-huge") is None
    with pytest.raises(InputError, match="no weights macr-huge are shipped: choose macr-small"):
        read_card("macr-huge")


def test_a_file_that_is_not_the_shipped_one_is_refused(monkeypatch):
    changed = shipped.ShippedWeights("macr_small.safetensors", "0" * 64, "")
    monkeypatch.setitem(SHIPPED, "changed", changed)
    monkeypatch.setitem(SHIPPED, "lost", shipped.ShippedWeights("lost.safetensors", "0" * 64, ""))
    with pytest.raises(InputError, match=r"changed: .*is not the file that was shipped: install macr-plugin again"):
        find_shipped("changed")
    with pytest.raises(InputError, match=r"lost: .*No such file or directory: install macr-plugin again"):
        find_shipped("lost")
