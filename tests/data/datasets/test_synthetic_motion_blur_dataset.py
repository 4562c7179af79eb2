import pickle
import random

import cv2
import numpy as np
import pytest
import torch
from saved_pictures import textured
from torch.utils.data import DataLoader

from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.datasets.synthetic_motion_blur_dataset import SyntheticMotionBlurDataset
from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.storage.lmdb_format import Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.data.storage.readers import FileReader
from macr_plugin.data.synthesis.source_photos import read_photo
from macr_plugin.data.synthesis.torch_rendering import with_rendered_blur
from macr_plugin.errors import InputError

SIZE = 32
PHOTOS = ("a/north.png", "a/south.jpg", "east.webp", "west.png")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for seed, name in enumerate(PHOTOS):
        cv2.imwrite(str(folder / name), textured(seed=seed))
    (folder / "notes.txt").write_text("not a photograph")
    (folder / "._west.png").write_bytes(b"what macOS leaves behind")
    return folder


@pytest.fixture
def dataset(photos):
    def build(**changes):
        opt = {"phase": "train", "dataroot_gt": str(photos), "gt_size": SIZE, "blur_extent": [2, 5], "manual_seed": 3}
        return SyntheticMotionBlurDataset({**opt, **changes})

    return build


def draws(epoch, number=8):
    return [DrawnIndex(draw % len(PHOTOS), epoch, draw) for draw in range(number)]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in ("lq", "gt"))


def position_picture(height=90, width=120):
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, rows + columns), axis=-1).astype(np.uint8)


def test_sample(dataset):
    data = dataset()
    assert len(data) == len(PHOTOS)
    assert [data[index]["lq_path"] for index in range(len(data))] == sorted(PHOTOS)
    sample = data[draws(0)[1]]
    assert sample["gt_path"] == sample["lq_path"] == "a/south.jpg"
    for name in ("lq", "gt"):
        assert sample[name].dtype == torch.float32
        assert sample[name].shape == (3, SIZE, SIZE)
        assert 0 <= sample[name].min() < sample[name].max() <= 1
    assert sample["lq"].diff(dim=2).abs().mean() < 0.9 * sample["gt"].diff(dim=2).abs().mean()


def test_sharp_picture_is_a_cut_out_in_rgb(dataset, photos):
    for name in PHOTOS:
        (photos / name).unlink()
    picture = position_picture()
    cv2.imwrite(str(photos / "positions.png"), picture)
    red_green_blue = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)
    corners = set()
    for draw in range(20):
        sharp = dataset(use_hflip=False, use_rot=False, uint8=True)[DrawnIndex(0, 0, draw)]["gt"]
        top, left = int(sharp[2, 0, 0]), int(sharp[1, 0, 0])
        assert torch.equal(sharp, red_green_blue[:, top : top + SIZE, left : left + SIZE])
        corners.add((top, left))
    assert len(corners) > 10


def test_flips(dataset, photos):
    for name in PHOTOS:
        (photos / name).unlink()
    cv2.imwrite(str(photos / "positions.png"), position_picture())

    def orientations(**changes):
        data = dataset(uint8=True, **changes)
        sharp = [data[DrawnIndex(0, 0, draw)]["gt"].int() for draw in range(40)]
        # How row and column of the photograph change one pixel down and to the right.
        return {tuple(int(s[c, y, x] - s[c, 0, 0]) for c in (2, 1) for y, x in ((1, 0), (0, 1))) for s in sharp}

    assert orientations(use_hflip=False, use_rot=False) == {(1, 0, 0, 1)}
    assert orientations(use_rot=False) == {(1, 0, 0, 1), (1, 0, 0, -1)}
    assert len(orientations()) == 8
    assert orientations(phase="val") == {(1, 0, 0, 1)}


def test_every_draw_differs_and_depends_on_seed_epoch_and_draw_alone(dataset):
    data = dataset()
    epochs = [[data[index] for index in draws(epoch)] for epoch in range(3)]
    pictures = {sample["lq"].numpy().tobytes() for epoch in epochs for sample in epoch}
    assert len(pictures) == 24
    random.seed(1)
    again = dataset()
    # In another order, as after a resume.
    for sample, index in reversed([*zip(epochs[1], draws(1), strict=True)]):
        assert same(again[index], sample)
    assert not same(dataset(manual_seed=4)[draws(1)[0]], epochs[1][0])


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(dataset, workers):
    indices = draws(2)
    alone = [dataset()[index] for index in indices]
    # This process has rendered with OpenCV's threads before it forks.
    loader = DataLoader(dataset(), batch_size=None, sampler=indices, num_workers=workers)
    for sample, expected in zip(loader, alone, strict=True):
        assert same(sample, expected)


def test_survives_spawning(dataset):
    data = dataset(cache=True)
    expected = data[draws(0)[0]]
    assert same(pickle.loads(pickle.dumps(data))[draws(0)[0]], expected)


def test_plain_indices_in_training_draw_from_random(dataset):
    data = dataset()
    random.seed(5)
    first, second = data[0], data[0]
    assert not same(first, second)
    random.seed(5)
    assert same(data[0], first)


def test_validation_gives_the_same_pairs_every_time(dataset):
    data = dataset(phase="val")
    for index in range(len(data)):
        assert same(data[index], dataset(phase="val")[index])


def test_uint8_holds_the_same_values(dataset):
    index = draws(0)[0]
    floats, integers = dataset()[index], dataset(uint8=True)[index]
    for name in ("lq", "gt"):
        assert integers[name].dtype == torch.uint8
        assert torch.equal(integers[name].float() / 255, floats[name])


def test_averaging_of_encoded_values_is_darker(dataset):
    for index in draws(0, 4):
        linear, encoded = (dataset(averaging=averaging)[index] for averaging in ("linear", "encoded"))
        assert torch.equal(linear["gt"], encoded["gt"])
        assert encoded["lq"].mean() < linear["lq"].mean()


def test_cached_photographs_are_read_once(dataset, photos):
    data, fresh = dataset(cache=True), dataset()
    first = data[draws(0)[0]]
    for name in PHOTOS[:1]:
        (photos / name).unlink()
    assert same(data[draws(0)[0]], first)
    with pytest.raises(InputError, match=r"north\.png: No such file"):
        fresh[draws(0)[0]]


@pytest.mark.parametrize(("backend", "storage"), [("lmdb", "png"), ("uncompressed_lmdb", "uncompressed")])
def test_lmdb_of_sharp_pictures(dataset, photos, tmp_path, backend, storage):
    for name in PHOTOS:
        (photos / name).unlink()
    items = [(f"scene/{seed}", encode_png(textured(seed=seed))) for seed in range(3)]
    for key, data in items:
        (photos / key).parent.mkdir(exist_ok=True)
        (photos / f"{key}.png").write_bytes(data)
    write_image_lmdb(tmp_path / "sharp.lmdb", items, Storage(storage))
    from_lmdb = dataset(dataroot_gt=str(tmp_path / "sharp.lmdb"), io_backend={"type": backend})
    from_files = dataset()
    assert len(from_lmdb) == 3
    for index in range(3):
        drawn = DrawnIndex(index, 0, index)
        assert same(from_lmdb[drawn], from_files[drawn])
        assert from_lmdb[drawn]["lq_path"] == f"scene/{index}"


def assert_rendered_as_on_the_cpu(batch, pairs):
    """The draws of a batch, rendered on the device, are the pairs that the workers render, up to rounding."""
    rendered = with_rendered_blur(batch, torch.device("cpu"))
    for index, blur, sharp in zip(draws(0), rendered["lq"], rendered["gt"], strict=True):
        expected = pairs[index]
        assert torch.equal(sharp, expected["gt"])
        difference = (blur.int() - expected["lq"].int()).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 0.05


def test_rendering_on_the_device_gives_the_same_kind_of_pairs(dataset):
    # Paths of one extent have one number of sub-frames wherever they are rendered, and so are the same.
    options = {"blur_extent": [5, 5], "uint8": True}
    loader = DataLoader(dataset(render_on="device", **options), batch_size=8, sampler=draws(0))
    batch = next(iter(loader))
    assert "lq" not in batch
    assert_rendered_as_on_the_cpu(batch, dataset(**options))


def test_realistic_blur_on_the_device_is_that_of_the_cpu(dataset):
    options = {"realistic": True, "blur_extent": [6, 6], "blur_median": None, "object_share": 0.5, "jpeg_share": 0}
    options |= {"uint8": True, "sharp_share": 0, "photon_noise": [0, 0], "read_noise": [0, 0]}
    loader = DataLoader(dataset(render_on="device", **options), batch_size=8, sampler=draws(0))
    batch = next(iter(loader))
    assert len(set(batch["averaging"])) > 2
    assert batch["inverse_depth"].std(dim=(1, 2)).max() > 0.1
    assert 0 < (batch["object"][:, 3].amax(dim=(1, 2)) > 0).sum() < 8
    assert_rendered_as_on_the_cpu(batch, dataset(**options))


def test_noise_on_the_device_is_as_strong_as_on_the_cpu(dataset):
    options = {"blur_extent": [0, 0], "photon_noise": [6, 6], "read_noise": [1, 1], "uint8": True}
    loader = DataLoader(dataset(render_on="device", **options), batch_size=8, sampler=draws(0))
    batch = with_rendered_blur(next(iter(loader)), torch.device("cpu"))
    on_device = (batch["lq"].float() - batch["gt"].float()).std().item()
    samples = [dataset(**options)[index] for index in draws(0)]
    on_cpu = torch.stack([sample["lq"].float() - sample["gt"].float() for sample in samples]).std().item()
    assert on_device == pytest.approx(on_cpu, rel=0.05)
    again = with_rendered_blur(next(iter(loader)), torch.device("cpu"))
    assert torch.equal(again["lq"], batch["lq"])


def test_moving_shapes_are_filled_from_the_other_photographs(dataset, photos):
    for name, colour in zip(PHOTOS, (10, 90, 170, 250), strict=True):
        cv2.imwrite(str(photos / name), np.full((90, 120, 3), colour, np.uint8))
    data = dataset(object_share=1, uint8=True, cache=True)
    colours = {data[DrawnIndex(3, 0, draw)]["gt"][0].unique()[0].item() // 80 for draw in range(40)}
    assert len(colours) > 2


def test_everything_at_once_depends_on_the_draw_alone(dataset):
    data, again = (dataset(realistic=True, blur_extent=[0, 6], object_share=1) for _ in range(2))
    for index in draws(3):
        assert same(data[index], again[index])


def test_paths_of_any_extent_fit_into_one_batch(dataset):
    loader = DataLoader(dataset(render_on="device", averaging="encoded"), batch_size=8, sampler=draws(0))
    batch = with_rendered_blur(next(iter(loader)), torch.device("cpu"))
    assert batch["lq"].shape == batch["gt"].shape == (8, 3, SIZE, SIZE)
    assert set(batch["averaging"]) == {"encoded"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gt_size": None}, r"datasets\.train\.gt_size is not set: add it"),
        ({"dataroot_gt": None}, r"datasets\.train\.dataroot_gt is not set: add it"),
        ({"dataroot_gt": "nowhere"}, "nowhere is not a folder: give the folder of the photographs"),
        ({"blur_extent": [5, 2]}, r"datasets\.train\.blur_extent \[5, 2\] is no range: give two numbers"),
        ({"blur_extent": 5}, r"blur_extent 5 is no range"),
        ({"averaging": "gamma"}, r"datasets\.train\.averaging is gamma: choose linear or encoded"),
        ({"blur_median": -2}, r"datasets\.train\.blur_median is -2: give a number"),
        ({"jpeg_quality": [90]}, r"datasets\.train\.jpeg_quality \[90\] is no range"),
        ({"object_folder": "nowhere"}, "nowhere is not a folder"),
        ({"render_on": "device", "realistic": True}, r"datasets\.train\.jpeg_share is not .*render_on to cpu"),
        ({"render_on": "gpu"}, r"datasets\.train\.render_on is gpu: choose cpu or device"),
        ({"io_backend": {"type": "petrel"}}, r"datasets\.train\.io_backend has type petrel: choose disk, lmdb or unc"),
    ],
)
def test_unusable_options(dataset, options, message):
    with pytest.raises(InputError, match=message):
        dataset(**options)


def test_unusable_photographs(dataset, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no photographs: expected \.bmp"):
        dataset(dataroot_gt=str(tmp_path / "empty"))
    cv2.imwrite(str(photos / "a/north.png"), textured(47, 200))
    # 32 pixels and a margin of 8 on each side.
    with pytest.raises(InputError, match=r"north\.png is 200x47, smaller than datasets\.train\.gt_size with .* 48x48"):
        dataset()[0]
    for content in (b"", b"not a picture"):
        (photos / "a/north.png").write_bytes(content)
        with pytest.raises(InputError, match=r"north\.png is not a readable picture"):
            dataset()[0]


def test_grey_and_16_bit_photographs_become_8_bit_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), textured().astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "grey.png"), textured()[..., 0])
    reader = FileReader({name: tmp_path / f"{name}.png" for name in ("deep", "grey")}, read_photo)
    np.testing.assert_array_equal(reader.read("deep"), textured()[..., ::-1])
    np.testing.assert_array_equal(reader.read("grey"), textured()[..., [0, 0, 0]])
