import copy
import pickle
import random
import shutil

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import data_sampler
from saved_pictures import save_pair

from macr_plugin.basicsr_compat.epochs import patch_epochs
from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.picture_files import encode_png
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.lmdb_format import Storage
from macr_plugin.data.storage.lmdb_writer import write_image_lmdb
from macr_plugin.errors import InputError

BACKENDS = ["disk", "lmdb", "uncompressed_lmdb"]
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
        save_pair(root / scene, f"{frame}.png", position_picture(number), position_picture(number, level=100))
    pairs = find_pairs(root)
    for kind in ("blur", "sharp"):
        items = [(pair.key, getattr(pair, kind)) for pair in pairs]
        write_image_lmdb(tmp_path / f"{kind}.lmdb", items)
        write_image_lmdb(tmp_path / f"{kind}_uncompressed.lmdb", items, Storage("uncompressed"))
    return tmp_path


def options(root, backend="lmdb", phase="val", **changes):
    places = {
        "lmdb": {"dataroot_lq": str(root / "blur.lmdb"), "dataroot_gt": str(root / "sharp.lmdb")},
        "uncompressed_lmdb": {
            "dataroot_lq": str(root / "blur_uncompressed.lmdb"),
            "dataroot_gt": str(root / "sharp_uncompressed.lmdb"),
        },
        "disk": {"dataroot": str(root / "train")},
    }
    return {"phase": phase, "io_backend": {"type": backend}, "gt_size": 16} | places[backend] | changes


def bytes_of(tensor):
    return np.rint(tensor.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_are_left_as_they_were(split, backend):
    opt = options(split, backend)
    before = copy.deepcopy(opt)
    first, second = DeblurPairDataset(opt), DeblurPairDataset(opt)
    assert first[0]["lq_path"] == second[0]["lq_path"]
    assert opt == before


@pytest.mark.parametrize(
    ("backend", "start"),
    [*((backend, "fork") for backend in BACKENDS), ("lmdb", "spawn"), ("uncompressed_lmdb", "spawn")],
)
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


@pytest.mark.parametrize("backend", ["lmdb", "uncompressed_lmdb"])
def test_training_and_validating_on_one_lmdb(split, backend):
    training = DeblurPairDataset(options(split, backend, "train"))
    validation = DeblurPairDataset(options(split, backend))
    loader = torch.utils.data.DataLoader(training, num_workers=1, multiprocessing_context="fork")
    for _ in range(2):
        assert len(list(loader)) == 10
        assert validation[0]["lq_path"] == KEYS[0]
    assert training[0]["lq_path"] == KEYS[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dataset_that_has_read_can_be_pickled(split, backend):
    dataset = DeblurPairDataset(options(split, backend, cache=True))
    expected = dataset[0]
    copied = pickle.dumps(dataset)
    assert len(copied) < 4000, "neither pictures nor open files travel"
    assert torch.equal(pickle.loads(copied)[0]["lq"], expected["lq"])


def test_lmdb_is_opened_by_the_first_read(split):
    DeblurPairDataset(options(split))
    lmdb.open(str(split / "blur.lmdb"), readonly=True, lock=False).close()


@pytest.mark.parametrize("backend", ["lmdb", "uncompressed_lmdb"])
def test_both_sides_may_be_one_lmdb(split, backend):
    opt = options(split, backend)
    dataset = DeblurPairDataset({**opt, "dataroot_lq": opt["dataroot_gt"]})
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_crop_larger_than_the_picture(split, backend):
    assert DeblurPairDataset(options(split, backend, "train", gt_size=24))[0]["gt"].shape == (3, 24, 24)
    with pytest.raises(InputError, match=r"is 32x24, smaller than the crop of 25: lower datasets\.train\.gt_size"):
        DeblurPairDataset(options(split, backend, "train", gt_size=25))[0]


def test_error_in_a_worker_stays_an_input_error(split):
    dataset = DeblurPairDataset(options(split, "disk", "train", gt_size=25))
    with pytest.raises(InputError, match="smaller than the crop"):
        list(torch.utils.data.DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataroot_gt": None}, r"datasets\.val\.dataroot_gt is not set"),
        ({"dataroot_lq": "/no/such/x.lmdb"}, r"/no/such/x\.lmdb is not a folder"),
        (
            {"io_backend": {"type": "memcached"}},
            r"val\.io_backend has type memcached: choose lmdb, uncompressed_lmdb or",
        ),
        ({"io_backend": {}}, "choose lmdb, uncompressed_lmdb or disk"),
        ({"scale": 4}, "scale is 4"),
        ({"num_frames": 0}, r"datasets\.val\.num_frames is 0"),
        ({"phase": "train", "gt_size": None}, r"datasets\.train\.gt_size is not set"),
    ],
)
def test_unusable_options(split, changes, message):
    with pytest.raises(InputError, match=message):
        DeblurPairDataset(options(split, **changes))


# --- uncompressed pictures -------------------------------------------------------------------------------------------


def test_lmdb_of_another_storage(split):
    png, raw = str(split / "blur.lmdb"), str(split / "blur_uncompressed.lmdb")
    with pytest.raises(InputError, match=r"blur_uncompressed\.lmdb holds uncompressed .* type: uncompressed_lmdb, or"):
        DeblurPairDataset(options(split, "lmdb", dataroot_lq=raw))
    with pytest.raises(
        InputError, match=r"blur\.lmdb holds png pictures and io_backend has type uncompressed_lmdb: set"
    ):
        DeblurPairDataset(options(split, "uncompressed_lmdb", dataroot_lq=png))
    with pytest.raises(InputError, match=r"blur\.lmdb is an LMDB and .* has type disk: set type: lmdb or uncompressed"):
        DeblurPairDataset(options(split, "disk", dataroot=None, dataroot_lq=png, dataroot_gt=png))


@pytest.mark.parametrize("backend", ["lmdb", "uncompressed_lmdb"])
def test_sizes_are_compared_before_anything_is_read(split, backend):
    opt = options(split, backend, "train", gt_size=25)
    with pytest.raises(InputError, match=r"is 32x24, smaller than the crop of 25"):
        DeblurPairDataset(opt)
    storage = Storage("uncompressed" if backend == "uncompressed_lmdb" else "png")
    shutil.rmtree(opt["dataroot_gt"])
    pictures = [(key, encode_png(np.zeros((24, 31, 3), np.uint8))) for key in KEYS]
    write_image_lmdb(split / opt["dataroot_gt"], pictures, storage)
    with pytest.raises(InputError, match=r"is 32x24 and .* is 31x24: the two pictures of a pair must have one size"):
        DeblurPairDataset(options(split, backend))


def test_pictures_of_many_sizes(tmp_path):
    generator = np.random.default_rng(0)
    sizes = [(1, 1), (7, 5), (16, 40), (33, 31), (128, 160), (300, 7)]
    pictures = {f"s/{n}": generator.integers(0, 256, (*size, 3), np.uint8) for n, size in enumerate(sizes)}
    path = tmp_path / "all.lmdb"
    write_image_lmdb(path, [(key, encode_png(picture)) for key, picture in pictures.items()], Storage("uncompressed"))
    opt = {"phase": "val", "io_backend": {"type": "uncompressed_lmdb"}, "dataroot_lq": path, "dataroot_gt": path}
    dataset = DeblurPairDataset(opt)
    for item in dataset:
        np.testing.assert_array_equal(bytes_of(item["gt"])[..., ::-1], pictures[item["gt_path"]])


def test_lmdb_made_by_basicsr(split):
    """What the preparation scripts of BasicSR and NAFNet write."""
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    for kind in ("blur", "sharp"):
        (split / "flat" / kind).mkdir(parents=True)
        for key in KEYS:
            scene, frame = key.split("/")
            shutil.copy(split / "train" / scene / kind / f"{frame}.png", split / f"flat/{kind}/{scene}-{frame}.png")
        files = sorted(path.name for path in (split / "flat" / kind).iterdir())
        keys = [name.removesuffix(".png") for name in files]
        target = str(split / f"{kind}_crops.lmdb")
        make_lmdb_from_imgs(str(split / "flat" / kind), target, files, keys, map_size=2**20)
    places = {"dataroot_lq": str(split / "blur_crops.lmdb"), "dataroot_gt": str(split / "sharp_crops.lmdb")}
    dataset = DeblurPairDataset(options(split, **places))
    assert dataset.keys == [key.replace("/", "-") for key in KEYS]
    np.testing.assert_array_equal(bytes_of(dataset[7]["gt"]), position_picture(7)[..., ::-1])
    np.testing.assert_array_equal(bytes_of(dataset[7]["lq"]), position_picture(7, 100)[..., ::-1])


# --- bytes and cache -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_are_the_same_pictures(split, backend):
    as_float = DeblurPairDataset(options(split, backend, "train"))
    as_bytes = DeblurPairDataset(options(split, backend, "train", uint8=True))
    for draw in range(20):
        index = DrawnIndex(draw % 10, 0, draw)
        expected, item = as_float[index], as_bytes[index]
        for name in ("lq", "gt"):
            assert item[name].dtype == torch.uint8
            assert item[name].is_contiguous()
            assert expected[name].dtype == torch.float32
            np.testing.assert_array_equal(item[name].numpy().astype(np.float32) / 255, expected[name].numpy())


@pytest.mark.parametrize("backend", BACKENDS)
def test_cached_pictures_are_read_once(split, backend):
    dataset = DeblurPairDataset(options(split, backend, "train", cache=True))
    plain = DeblurPairDataset(options(split, backend, "train"))
    before = [plain[DrawnIndex(number, 1, number)] for number in range(10)]
    for epoch in (0, 1):
        cached = [dataset[DrawnIndex(number, epoch, number)] for number in range(10)]
        for kind in ("blur", "sharp", "blur.lmdb", "sharp.lmdb", "train"):
            shutil.rmtree(split / kind, ignore_errors=True)
    for item, expected in zip(cached, before, strict=True):
        assert torch.equal(item["lq"], expected["lq"])
        assert torch.equal(item["gt"], expected["gt"])


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def draws_of(split, restored_basicsr):
    """Crops of some epochs as BasicSR's program would draw them, with the name of the picture."""
    patch_epochs(DrawnIndex)

    def draw(epochs=(0,), num_workers=0, rank=0, ranks=1, ratio=3, backend="lmdb", seed=0, **loader_options):
        dataset = DeblurPairDataset(options(split, backend, "train", uint8=True, manual_seed=seed))
        sampler = data_sampler.EnlargedSampler(dataset, ranks, rank, ratio)
        loader = torch.utils.data.DataLoader(dataset, 2, sampler=sampler, num_workers=num_workers, **loader_options)
        crops = []
        for epoch in epochs:
            sampler.set_epoch(epoch)
            batches = list(loader)
            keys = [key for batch in batches for key in batch["gt_path"]]
            crops.append(
                list(zip(keys, (crop.numpy().tobytes() for batch in batches for crop in batch["gt"]), strict=True))
            )
        return crops

    return draw


def test_every_epoch_and_every_seed_draws_anew(draws_of):
    epochs = draws_of(range(3))
    assert all(len(epoch) == 30 for epoch in epochs)
    assert len({crop for epoch in epochs for crop in epoch}) > 85, "each repetition in an enlarged epoch, too"
    other = draws_of(range(1), seed=1)[0]
    assert [key for key, _ in other] == [key for key, _ in epochs[0]]
    assert len(set(other) & set(epochs[0])) < 3


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_do_not_depend_on_workers_storage_or_global_state(draws_of, backend):
    expected = draws_of(range(2))
    random.seed(5)
    assert draws_of(range(2), backend=backend) == expected
    assert draws_of(range(2), num_workers=1, backend=backend) == expected
    kept = {"num_workers": 3, "persistent_workers": True, "multiprocessing_context": "fork"}
    assert draws_of(range(2), backend=backend, **kept) == expected


def test_spawned_workers_draw_the_same(draws_of):
    spawned = draws_of(num_workers=1, multiprocessing_context="spawn", backend="uncompressed_lmdb")
    assert spawned == draws_of()


def test_a_resumed_run_draws_what_the_undisturbed_one_drew(draws_of):
    assert draws_of([2], num_workers=1) == draws_of(range(3))[2:]


def test_two_ranks_draw_different_samples(draws_of):
    first, second = (draws_of([4], rank=rank, ranks=2, ratio=1)[0] for rank in (0, 1))
    assert {key for key, _ in first} | {key for key, _ in second} == set(KEYS)
    assert not {key for key, _ in first} & {key for key, _ in second}
    first, second = (draws_of([4], rank=rank, ranks=2, ratio=3)[0] for rank in (0, 1))
    assert len(set(first) & set(second)) <= 1


@pytest.mark.parametrize("suffix", ["webp", "png", "bmp", "tiff"])
def test_file_names_with_dots_in_every_format(tmp_path, suffix):
    quality = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == "webp" else []
    for kind in ("blur", "sharp"):
        (tmp_path / kind).mkdir()
        for number, name in enumerate(("img.v1", "img.v2")):
            cv2.imwrite(str(tmp_path / kind / f"{name}.{suffix}"), position_picture(number), quality)
    opt = options(tmp_path, "disk", dataroot_lq=str(tmp_path / "blur"), dataroot_gt=str(tmp_path / "sharp"))
    del opt["dataroot"]
    dataset = DeblurPairDataset(opt)
    assert [dataset[index]["lq_path"] for index in range(2)] == ["img.v1", "img.v2"]
    np.testing.assert_array_equal(bytes_of(dataset[1]["lq"]), position_picture(1)[..., ::-1])
