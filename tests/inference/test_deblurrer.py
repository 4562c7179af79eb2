import os
import subprocess
import sys
import weakref

import basicsr
import cv2
import numpy as np
import pytest
import torch
from torch import nn

import macr_plugin
from macr_plugin import Deblurrer
from macr_plugin.archs.macr_arch import MACR
from macr_plugin.errors import InputError
from macr_plugin.inference import deblurrer as deblurrer_module

NETWORKS = {
    "MACR": {"num_feat": 8, "num_blocks": 1, "branch_channels": 2},
    "SRNDeblurNet": {"num_feat": 4, "num_blocks": 1, "lstm": True},
    "DeepDeblur": {"num_feat": 4, "num_blocks": 1},
    "SunMotionNet": {"channels": [4, 4, 8], "patch_stride": 8},
    "SpandrelNet": {
        "architecture": "NAFNet",
        "width": 4,
        "enc_blk_nums": [1],
        "middle_blk_num": 1,
        "dec_blk_nums": [1],
    },
    "RIDNet": {"in_channels": 3, "mid_channels": 16, "out_channels": 3, "num_block": 1, "img_range": 1.0},
    "SwinIR": {"upscale": 1, "img_range": 1.0, "depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8}
    | {"upsampler": ""},
}


def save_random(name, path):
    torch.manual_seed(0)
    network = basicsr.utils.registry.ARCH_REGISTRY.get(name)(**NETWORKS[name])
    torch.save({"params": network.state_dict(), "network_g": {"type": name, **NETWORKS[name]}}, path)
    return network.eval().requires_grad_(False)


def test_no_network_of_ours_is_left_out():
    """Of all that the plugin registers, those that return a picture: a discriminator returns a verdict."""
    registered = basicsr.utils.registry.ARCH_REGISTRY._obj_map
    ours = {name for name, network in registered.items() if network.__module__.startswith("macr_plugin.")}
    assert ours == {name for name in NETWORKS if name in ours} | {"DeepDeblurDiscriminator"}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(tmp_path, photo, name):
    """A picture of which every network takes the size gives what the network alone gives."""
    network = save_random(name, tmp_path / "weights.pth")
    # All of them take this size as it is, but SunMotionNet, whose patches have 30 px.
    blurred = photo[:60, :90] if name == "SunMotionNet" else photo[:64, :80]
    expected = network(torch.from_numpy(blurred.copy()).permute(2, 0, 1)[None] / 255).clamp(0, 1)
    deblurrer = Deblurrer(tmp_path / "weights.pth", precision="fp32")
    assert type(deblurrer.network) is type(network)
    restored = deblurrer.restore(blurred)
    np.testing.assert_array_equal(restored, (255 * expected[0].permute(1, 2, 0)).round().numpy().astype(np.uint8))
    assert deblurrer.restore(photo[:63, :41]).shape == (63, 41, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_the_same_kind_comes_out(weights, photo, dtype):
    deblurrer = Deblurrer(weights, device="cpu", precision="fp32")
    image = photo / 255 if np.dtype(dtype).kind == "f" else photo.astype(dtype) * (np.iinfo(dtype).max // 255)
    expected = deblurrer.restore((photo / 255).astype(np.float32))
    restored = deblurrer.restore(image.astype(dtype))
    assert restored.dtype == dtype
    largest = 1 if restored.dtype.kind == "f" else np.iinfo(dtype).max
    assert np.abs(restored / largest - expected).max() < {np.uint8: 0.51 / 255, np.float16: 1e-3}.get(dtype, 1e-5)
    assert np.abs(restored / largest - photo / 255).max() > 0.02


def test_tensors_and_views(weights, photo):
    deblurrer = Deblurrer(weights, precision="fp32")
    expected = deblurrer.restore((photo / 255).astype(np.float32))
    batch = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].expand(2, -1, -1, -1) / 255
    restored = deblurrer.restore(batch)
    assert restored.shape == batch.shape
    np.testing.assert_allclose(restored[1].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert deblurrer.restore(batch.double()).dtype == torch.float64
    frozen = photo[::-1, ::-1]
    frozen.flags.writeable = False
    assert deblurrer.restore(frozen).shape == photo.shape


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 5), np.uint8), r"shape \(5, 5\): give \(H, W, 3\)"),
        (np.zeros((5, 0, 3), np.uint8), r"give \(H, W, 3\)"),
        (np.zeros((5, 5, 3), np.int32), "an array of int32: give uint8"),
        (torch.zeros(1, 3, 5, 5, dtype=torch.uint8), "floating"),
        (torch.zeros(3, 5, 5), r"give \(N, 3, H, W\)"),
    ],
)
def test_other_kinds_are_refused(weights, image, message):
    with pytest.raises(InputError, match=message):
        Deblurrer(weights).restore(image)


def test_one_pixel_and_a_long_line(weights):
    deblurrer = Deblurrer(weights, tile=64)
    assert deblurrer.restore(np.full((1, 1, 3), 77, np.uint8)).shape == (1, 1, 3)
    assert deblurrer.restore(np.full((2, 3000, 3), 77, np.uint8)).shape == (2, 3000, 3)


@pytest.mark.parametrize("shape", [(150, 933), (1000, 97)])
def test_tiles_equal_the_whole_where_the_overlap_covers_the_receptive_field(weights, shape):
    picture = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), 2) * 2 - 0.5
    whole = Deblurrer(weights, precision="fp32", tile=0).restore(picture)
    tiled = Deblurrer(weights, precision="fp32", tile=512)
    plan = tiled.tiles(512)
    assert plan.margin >= tiled._radius
    assert np.abs(tiled.restore(picture) - whole).max() < 1e-4
    # Below that it is off, though by no more than can be borne.
    small = Deblurrer(weights, precision="fp32", tile=64)
    assert small.tiles(64).margin < tiled._radius
    assert 1e-4 < np.abs(small.restore(picture) - whole).max() < 0.1


def test_ensemble_is_the_mean_of_eight(weights, network, photo):
    square = torch.from_numpy(photo[:64, :64].copy()).permute(2, 0, 1)[None] / 255
    views = [square, square.flip(-1), square.flip(-2), square.flip(-1, -2)]
    views += [view.mT for view in views]
    restored = [network(view) for view in views]
    restored = [one.mT if number > 3 else one for number, one in enumerate(restored)]
    undo = [(), (-1,), (-2,), (-1, -2)] * 2
    expected = torch.stack([one.flip(axes) for one, axes in zip(restored, undo, strict=True)]).mean(dim=0).clamp(0, 1)
    torch.testing.assert_close(Deblurrer(weights, precision="fp32", ensemble=True).restore(square), expected)


class Hungry(nn.Module):
    """Runs out of memory with more than some pixels at once, and returns 1 - x."""

    minimum_size = 1

    def __init__(self, pixels):
        super().__init__()
        self.pixels, self.sizes = pixels, []

    def forward(self, x):
        self.sizes.append(x.shape[-1])
        if x.shape[-1] * x.shape[-2] > self.pixels:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return 1 - x


def test_tiles_are_halved_until_they_fit_and_stay_so(weights, monkeypatch, caplog):
    network = Hungry(100 * 100)
    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: network)
    monkeypatch.setattr(deblurrer_module, "receptive_radius", lambda restore, device: 0)
    picture = np.random.default_rng(0).integers(0, 256, (300, 333, 3)).astype(np.uint8)
    deblurrer = Deblurrer(weights, tile=0, precision="fp32")
    assert np.array_equal(deblurrer.restore(picture), 255 - picture)
    assert [size for size in network.sizes if size > 100] == [333, 166]
    assert "going on in tiles of 83 px" in caplog.text
    network.sizes.clear()
    assert np.array_equal(deblurrer.restore(picture), 255 - picture)
    assert set(network.sizes) == {83}


def test_a_failed_attempt_holds_no_memory_during_the_next(weights, monkeypatch):
    """Neither its error nor a frame of its traceback keeps a tensor."""

    class Watched(Hungry):
        def __init__(self, pixels):
            super().__init__(pixels)
            self.left = []

        def forward(self, x):
            activation = x.repeat(1, 2, 1, 1)
            self.left += [weakref.ref(x), weakref.ref(activation)]
            return super().forward(x)

    network = Watched(100 * 100)
    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: network)
    monkeypatch.setattr(deblurrer_module, "receptive_radius", lambda restore, device: 0)
    seen, release = [], deblurrer_module.release_memory

    def released(device):
        release(device)
        seen.append([reference() is None for reference in network.left])

    monkeypatch.setattr(deblurrer_module, "release_memory", released)
    Deblurrer(weights, tile=0, precision="fp32").restore(np.zeros((300, 333, 3), np.uint8))
    assert [len(dead) for dead in seen] == [2, 4]
    assert all(all(dead) for dead in seen)


@pytest.mark.parametrize(
    ("sides", "tile"), [([500], 304), ([100, 500], 304), ([100, 128], 128)], ids=["room", "kept", "no room"]
)
def test_memory_that_is_kept_makes_no_tile_smaller(weights, monkeypatch, sides, tile):
    """Each time that memory is given back the next side has room."""
    network, given_back = Hungry(10**9), []
    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: network)
    monkeypatch.setattr(deblurrer_module, "receptive_radius", lambda restore, device: 0)
    monkeypatch.setattr(deblurrer_module, "bytes_per_pixel", lambda restore, device, side: 1)
    monkeypatch.setattr(deblurrer_module, "largest_side", lambda memory_per_pixel, device: sides[len(given_back)])
    monkeypatch.setattr(deblurrer_module, "release_memory", given_back.append)
    Deblurrer(weights, precision="fp32").restore(np.zeros((304, 304, 3), np.uint8))
    assert set(network.sizes) == {tile}
    assert len(given_back) == len(sides) - 1


def test_no_tile_of_a_failed_attempt_is_left(weights, monkeypatch):
    """The third tile fails: what the first two left must not show."""

    class FailsOnce(Hungry):
        def forward(self, x):
            self.sizes.append(x.shape[-1])
            if len(self.sizes) == 3:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return x * 0 + (1 if len(self.sizes) < 3 else 0.25)

    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: FailsOnce(0))
    monkeypatch.setattr(deblurrer_module, "receptive_radius", lambda restore, device: 0)
    restored = Deblurrer(weights, tile=128, precision="fp32").restore(np.zeros((128, 500, 3), np.float32))
    np.testing.assert_allclose(restored, 0.25, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_not_even_the_smallest_tile_fits(weights, monkeypatch, precision):
    """Nor what tells, in bf16, whether a convolution and its ReLU may be one operation."""
    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: Hungry(0))
    with pytest.raises(InputError, match=r"does not suffice for tiles of \d+ px: close other programs"):
        Deblurrer(weights, device="cpu", precision=precision, tile=0).restore(np.zeros((500, 500, 3), np.uint8))


def test_other_errors_are_not_taken_for_want_of_memory(weights, monkeypatch):
    class Broken(Hungry):
        def forward(self, x):
            raise RuntimeError("expected 4 channels")

    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: Broken(0))
    with pytest.raises(RuntimeError, match="expected 4 channels"):
        Deblurrer(weights, tile=0).restore(np.zeros((64, 64, 3), np.uint8))


def test_auto_cuts_only_what_does_not_fit(weights, monkeypatch):
    deblurrer = Deblurrer(weights, precision="fp32")
    assert deblurrer._tile_size(640 * 480, 640) == 640
    monkeypatch.setattr(deblurrer_module, "largest_side", lambda *arguments: 200)
    assert deblurrer._tile_size(640 * 480, 640) == 200


def test_values_beyond_half_precision_are_named(weights, monkeypatch):
    class Overflows(nn.Module):
        def forward(self, x):
            return x * float("inf")

    monkeypatch.setattr(deblurrer_module, "load_network", lambda weights: Overflows())
    with pytest.raises(InputError, match="bf16 does not hold the network's values: choose --precision fp32"):
        Deblurrer(weights, precision="bf16").restore(np.ones((32, 32, 3), np.uint8))


def test_progress_counts_the_tiles(weights):
    deblurrer, seen = Deblurrer(weights, "cpu", "fp32", tile=64), []
    image = np.zeros((100, 150, 3), np.uint8)
    deblurrer.restore(image, lambda done, tiles: seen.append((done, tiles)))
    assert seen == [(done, seen[0][1]) for done in range(seen[0][1] + 1)]
    assert seen[0][1] > 6
    seen.clear()
    Deblurrer(weights, "cpu", "fp32", tile=0).restore(image, lambda done, tiles: seen.append((done, tiles)))
    assert seen == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "--precision fp8: choose one of auto, fp32"),
        ({"precision": "fp16", "device": "cpu"}, "fp16 needs an NVIDIA GPU"),
        ({"tile": "big"}, "--tile big: give auto"),
        ({"tile": -1}, "--tile -1"),
        ({"device": "tpu9"}, "there is no tpu9"),
        ({"weights": "nowhere"}, "--weights nowhere: there is no such file or folder"),
    ],
)
def test_bad_arguments(weights, options, message):
    with pytest.raises(InputError, match=message):
        Deblurrer(**{"weights": weights, **options})


def test_a_file(weights, photo, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), photo[..., ::-1])
    deblurrer = Deblurrer(weights, precision="fp32")
    deblurrer.restore_file(tmp_path / "a.png", tmp_path / "new/b.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "new/b.png"))[..., ::-1], deblurrer.restore(photo))
    with pytest.raises(InputError, match="is the source itself"):
        deblurrer.restore_file(tmp_path / "a.png", tmp_path / "new/../a.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], photo)


def test_the_package_imports_no_torch_for_it():
    code = (
        "import sys, macr_plugin; print('torch' in sys.modules); macr_plugin.Deblurrer; print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'Blurrer'"):
        _ = macr_plugin.Blurrer


@pytest.mark.slow
def test_a_large_picture_within_little_memory(weights):
    """As a whole it takes more than the 450 MiB that may be allocated: tiles are halved until they fit.

    With two threads the C library keeps more of what was freed. The limit counts addresses whose memory was given back
    as well, of which kernels for wider vectors have more: those of one width run on every processor.
    """
    code = f"""
import resource, numpy as np
from macr_plugin import Deblurrer
deblurrer = Deblurrer({str(weights)!r}, device="cpu", precision="fp32", tile=0)
deblurrer.restore(np.zeros((64, 64, 3), np.uint8))
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
unlimited = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (used + 450 * 2**20, unlimited[1]))
picture = np.random.default_rng(0).integers(0, 256, (1440, 2560, 3)).astype(np.uint8)
restored, tile = deblurrer.restore(picture), deblurrer._largest_tile
resource.setrlimit(resource.RLIMIT_DATA, unlimited)
expected = Deblurrer({str(weights)!r}, device="cpu", precision="fp32", tile=tile).restore(picture)
print(np.array_equal(restored, expected), tile)
"""
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert said.stdout.startswith("True "), said.stdout + said.stderr[-2000:]
    assert int(said.stdout.split()[-1]) >= 160
    assert "out of memory" in said.stderr


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not limit a process's memory")
def test_8k_within_less_than_4_gib_of_main_memory(tmp_path):
    """All memory of the process, with its libraries; the system itself gets the rest."""
    options = {"num_feat": 2, "num_blocks": 1, "branch_channels": 1, "num_scales": 1, "num_msrm": 0, "dilations": [1]}
    torch.save({"params": MACR(**options).state_dict(), "network_g": {"type": "MACR", **options}}, tmp_path / "w.pth")
    code = f"""
import resource, numpy as np
resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30,) * 2)
from macr_plugin import Deblurrer
deblurrer = Deblurrer({str(tmp_path / "w.pth")!r}, device="cpu", precision="fp32")
restored = deblurrer.restore(np.full((4320, 7680, 3), 99, np.uint8))
print(restored.shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=500)
    assert said.stdout.startswith("(4320, 7680, 3) "), said.stderr[-2000:]
    assert int(said.stdout.split()[-1]) * 1024 < 3 * 2**30


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_8k_within_6_gb_of_a_gpu(weights):
    torch.cuda.set_per_process_memory_fraction(6e9 / torch.cuda.get_device_properties(0).total_memory)
    restored = Deblurrer(weights, device="cuda").restore(np.full((4320, 7680, 3), 99, np.uint8))
    assert restored.shape == (4320, 7680, 3)
    assert torch.cuda.max_memory_allocated() < 6e9
