import copy
import pickle
import random
import shutil

import lmdb
import numpy as np
import pytest
import torch

from macr_plugin.data.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.gopro import find_pairs
from macr_plugin.data.lmdb import encode_png, write_image_lmdb
from macr_plugin.errors import InputError

KEYS = [f"{scene}/{frame:06d}" for scene in ("a", "b") for frame in range(1, 6)]
HEIGHT, WIDTH = 24, 32


def position_picture(number, level=0):
    """Every pixel tells where it comes from, in blue and green; red tells the picture."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack((rows + level, columns + level, np.full_like(rows, number)), axis=-1).astype(np.uint8)


@pytest.fixture
def split(tmp_path):
    root = tmp_path / "train"
    for number, key in enumerate(KEYS):
        scene, frame = key.split("/")
        for kind, level in (("blur", 100), ("sharp", 0)):
            file = root / scene / kind / f"{frame}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_png(position_picture(number, level)))
    pairs = find_pairs(root)
    write_image_lmdb(tmp_path / "blur.lmdb", [(pair.key, pair.blur) for pair in pairs])
    write_image_lmdb(tmp_path / "sharp.lmdb", [(pair.key, pair.sharp) for pair in pairs])
    return tmp_path


def options(root, backend="lmdb", phase="val", **changes):
    places = {
        "lmdb": {"dataroot_lq": str(root / "blur.lmdb"), "dataroot_gt": str(root / "sharp.lmdb")},
        "disk": {"dataroot": str(root / "train")},
    }
    return {"phase": phase, "io_backend": {"type": backend}, "gt_size": 16} | places[backend] | changes


def bytes_of(tensor):
    return np.rint(tensor.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("backend", ["lmdb", "disk"])
def test_evaluation_gives_whole_rgb_pictures_with_keys(split, backend):
    dataset = DeblurPairDataset(options(split, backend))
    assert len(dataset) == 10
    item = dataset[7]
    assert item["lq_path"] == item["gt_path"] == "b/000003"
    assert item["lq"].dtype == item["gt"].dtype == torch.float32
    np.testing.assert_array_equal(bytes_of(item["gt"]), position_picture(7)[..., ::-1])
    np.testing.assert_array_equal(bytes_of(item["lq"]), position_picture(7, 100)[..., ::-1])


def test_flat_folders(split):
    for kind in ("blur", "sharp"):
        for key in KEYS:
            scene, frame = key.split("/")
            target = split / kind / scene / f"{frame}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(split / "train" / scene / kind / f"{frame}.png", target)
    opt = options(split, "disk", dataroot=None, dataroot_lq=str(split / "blur"), dataroot_gt=str(split / "sharp"))
    dataset = DeblurPairDataset(opt)
    assert dataset.keys == KEYS
    assert dataset[3]["lq_path"] == KEYS[3]
    np.testing.assert_array_equal(bytes_of(dataset[3]["gt"]), position_picture(3)[..., ::-1])


def test_blur_gamma(split):
    for scene in ("a", "b"):
        (split / "train" / scene / "blur").rename(split / "train" / scene / "blur_gamma")
    assert len(DeblurPairDataset(options(split, "disk", blur="blur_gamma"))) == 10
    with pytest.raises(InputError, match="no folder blur"):
        DeblurPairDataset(options(split, "disk"))


@pytest.mark.parametrize("backend", ["lmdb", "disk"])
def test_crops_are_aligned_and_vary(split, backend):
    dataset = DeblurPairDataset(options(split, backend, "train"))
    random.seed(0)
    seen = set()
    for _ in range(40):
        item = dataset[2]
        lq, gt = bytes_of(item["lq"]), bytes_of(item["gt"])
        assert lq.shape == gt.shape == (16, 16, 3)
        np.testing.assert_array_equal(lq[..., 1:], gt[..., 1:] + 100)
        seen.add(gt.tobytes())
    assert len(seen) > 30


@pytest.mark.parametrize("turned", [{}, {"use_hflip": False}, {"use_rot": False}])
def test_draws_what_stock_basicsr_draws(split, turned):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    # A copy, since lmdb refuses to open one LMDB twice in a process.
    shutil.copytree(split / "blur.lmdb", split / "copy/blur.lmdb")
    shutil.copytree(split / "sharp.lmdb", split / "copy/sharp.lmdb")
    flips = {"use_hflip": True, "use_rot": True, "scale": 1} | turned
    stock = PairedImageDataset(options(split / "copy", "lmdb", "train", **flips))
    ours = DeblurPairDataset(options(split, "lmdb", "train", **turned))
    for number in range(10):
        random.seed(number)
        expected = stock[number]
        random.seed(number)
        item = ours[number]
        assert torch.equal(item["lq"], expected["lq"])
        assert torch.equal(item["gt"], expected["gt"])
        assert item["gt_path"] == expected["gt_path"]


def test_without_augmentation_crops_stand_upright(split):
    dataset = DeblurPairDataset(options(split, "lmdb", "train", use_hflip=False, use_rot=False))
    for _ in range(10):
        rows_and_columns = bytes_of(dataset[0]["gt"])[..., :0:-1].astype(int)
        assert (np.diff(rows_and_columns[..., 0], axis=0) == 1).all()
        assert (np.diff(rows_and_columns[..., 1], axis=1) == 1).all()


@pytest.mark.parametrize(
    ("wanted", "numbers"), [(1, [0]), (3, [0, 3, 6]), (5, [0, 2, 4, 6, 8]), (10, range(10)), (99, range(10))]
)
def test_num_frames_takes_an_even_subset(split, wanted, numbers):
    assert DeblurPairDataset(options(split, num_frames=wanted)).keys == [KEYS[number] for number in numbers]


@pytest.mark.parametrize("backend", ["lmdb", "disk"])
def test_options_are_left_as_they_were(split, backend):
    opt = options(split, backend)
    before = copy.deepcopy(opt)
    first, second = DeblurPairDataset(opt), DeblurPairDataset(opt)
    assert first[0]["lq_path"] == second[0]["lq_path"]
    assert opt == before


@pytest.mark.parametrize(("backend", "start"), [("lmdb", "fork"), ("disk", "fork"), ("lmdb", "spawn")])
def test_workers_read_what_the_parent_reads(split, backend, start):
    dataset = DeblurPairDataset(options(split, backend))
    # Reading here first leaves an open LMDB, which workers must not use.
    expected = [dataset[number] for number in range(len(dataset))]
    loader = torch.utils.data.DataLoader(
        dataset, num_workers=1, multiprocessing_context=start, persistent_workers=start == "spawn"
    )
    for _ in range(2):
        for item, other in zip(loader, expected, strict=True):
            assert item["lq_path"] == [other["lq_path"]]
            assert torch.equal(item["lq"][0], other["lq"])
    assert dataset[0]["lq_path"] == KEYS[0]


def test_training_and_validating_on_one_lmdb(split):
    training = DeblurPairDataset(options(split, "lmdb", "train"))
    validation = DeblurPairDataset(options(split, "lmdb"))
    loader = torch.utils.data.DataLoader(training, num_workers=1, multiprocessing_context="fork")
    for _ in range(2):
        assert len(list(loader)) == 10
        assert validation[0]["lq_path"] == KEYS[0]
    assert training[0]["lq_path"] == KEYS[0]


def test_lmdb_is_opened_late_and_closed_with_the_last_dataset(split):
    dataset = DeblurPairDataset(options(split))
    lmdb.open(str(split / "blur.lmdb"), readonly=True, lock=False).close()
    dataset[0]
    assert pickle.loads(pickle.dumps(dataset))[0]["lq_path"] == KEYS[0]
    del dataset
    lmdb.open(str(split / "blur.lmdb"), readonly=True, lock=False).close()


def test_both_sides_may_be_one_lmdb(split):
    dataset = DeblurPairDataset(options(split, dataroot_lq=str(split / "sharp.lmdb")))
    assert torch.equal(dataset[4]["lq"], dataset[4]["gt"])


def rewrite(path, items):
    shutil.rmtree(path)
    write_image_lmdb(path, items)


def test_lmdbs_with_different_keys(split):
    rewrite(split / "sharp.lmdb", [(key, encode_png(position_picture(0))) for key in KEYS[1:]])
    with pytest.raises(InputError, match=r"blur\.lmdb holds 'a/000001', .*sharp\.lmdb does not \(1 keys"):
        DeblurPairDataset(options(split))


def test_key_that_is_listed_but_not_stored(split):
    with lmdb.open(str(split / "blur.lmdb"), lock=False) as database, database.begin(write=True) as transaction:
        transaction.delete(KEYS[2].encode())
    dataset = DeblurPairDataset(options(split))
    with pytest.raises(InputError, match=r"blur\.lmdb: 'a/000003' stands in meta_info\.txt but not in data\.mdb"):
        dataset[2]


def test_empty_lmdb(split):
    (split / "blur.lmdb/meta_info.txt").write_text("")
    with pytest.raises(InputError, match="lists no pictures"):
        DeblurPairDataset(options(split))


def test_lmdb_without_list(split):
    (split / "sharp.lmdb/meta_info.txt").unlink()
    with pytest.raises(InputError, match=r"sharp\.lmdb/meta_info\.txt is missing"):
        DeblurPairDataset(options(split))


def test_data_that_is_no_lmdb(split):
    (split / "blur.lmdb/data.mdb").write_bytes(b"rubbish" * 1000)
    with pytest.raises(InputError, match=r"blur\.lmdb: 'a/000001' cannot be read"):
        DeblurPairDataset(options(split))[0]


@pytest.mark.parametrize("value", [b"", b"rubbish"])
def test_undecodable_value(split, value):
    with lmdb.open(str(split / "sharp.lmdb"), lock=False) as database, database.begin(write=True) as transaction:
        transaction.put(KEYS[0].encode(), value)
    with pytest.raises(InputError, match=r"sharp\.lmdb: 'a/000001' is not a readable picture"):
        DeblurPairDataset(options(split))[0]


def test_undecodable_file(split):
    (split / "train/a/blur/000002.png").write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"a/blur/000002\.png is not a readable picture"):
        DeblurPairDataset(options(split, "disk"))[1]


def test_file_that_vanished(split):
    dataset = DeblurPairDataset(options(split, "disk"))
    (split / "train/a/blur/000002.png").unlink()
    with pytest.raises(InputError, match=r"cannot read .*a/blur/000002\.png"):
        dataset[1]


@pytest.mark.parametrize("phase", ["train", "val"])
def test_pair_of_two_sizes(split, phase):
    (split / "train/a/sharp/000001.png").write_bytes(encode_png(np.zeros((20, 20, 3), np.uint8)))
    with pytest.raises(InputError, match=r"blur/000001\.png is 32x24 and .*sharp/000001\.png is 20x20"):
        DeblurPairDataset(options(split, "disk", phase))[0]


@pytest.mark.parametrize("backend", ["lmdb", "disk"])
def test_crop_larger_than_the_picture(split, backend):
    assert DeblurPairDataset(options(split, backend, "train", gt_size=24))[0]["gt"].shape == (3, 24, 24)
    with pytest.raises(InputError, match=r"is 32x24, smaller than the crop of 25: lower datasets\.train\.gt_size"):
        DeblurPairDataset(options(split, backend, "train", gt_size=25))[0]


def test_error_in_a_worker_stays_an_input_error(split):
    dataset = DeblurPairDataset(options(split, "lmdb", "train", gt_size=25))
    with pytest.raises(InputError, match="smaller than the crop"):
        list(torch.utils.data.DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataroot_gt": None}, r"datasets\.val\.dataroot_gt is not set"),
        ({"dataroot_lq": "/no/such/x.lmdb"}, r"/no/such/x\.lmdb is not a folder"),
        ({"io_backend": {"type": "memcached"}}, r"datasets\.val\.io_backend has type memcached: choose lmdb or disk"),
        ({"io_backend": {}}, "choose lmdb or disk"),
        ({"scale": 4}, "scale is 4"),
        ({"num_frames": 0}, r"datasets\.val\.num_frames is 0"),
        ({"phase": "train", "gt_size": None}, r"datasets\.train\.gt_size is not set"),
    ],
)
def test_unusable_options(split, changes, message):
    with pytest.raises(InputError, match=message):
        DeblurPairDataset(options(split, **changes))
