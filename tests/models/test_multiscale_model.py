"""The model class on small networks, against the same steps written out by hand."""

import copy
import errno
import logging
from pathlib import Path

import basicsr
import cv2
import numpy as np
import pytest
import torch
from basicsr.losses import build_loss
from basicsr.metrics import calculate_psnr
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from macr_plugin.archs.pyramid import resize
from macr_plugin.errors import InputError
from macr_plugin.models import multiscale_model
from macr_plugin.models.acceleration import Acceleration
from macr_plugin.models.network_output import finest_first, restore_pyramid


class OnePicture(nn.Module):
    """A network without scales, with a buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return x + self.norm(self.layer(x))


class CoarsestFirst(nn.Module):
    """A network that returns its pyramid in the other order, as MIMO-UNet does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        restored = self.layer(x)
        height, width = x.shape[-2:]
        return [resize(restored, (height // 4, width // 4)), resize(restored, (height // 2, width // 2)), restored]


@pytest.fixture(autouse=True)
def extra_networks():
    ARCH_REGISTRY._obj_map.update(OnePicture=OnePicture, CoarsestFirst=CoarsestFirst)
    yield
    del ARCH_REGISTRY._obj_map["OnePicture"], ARCH_REGISTRY._obj_map["CoarsestFirst"]


def test_a_step_equals_plain_pytorch(build, batch):
    """Bit for bit: the loss of every scale against the sharp picture of its size, Adam, nothing else."""
    model = build(pixel_opt={"type": "MACRLoss"}, optim_g={"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]})
    net = copy.deepcopy(model.net_g)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, betas=(0.9, 0.99))
    loss = build_loss({"type": "MACRLoss"})
    batch = {name: nn.functional.interpolate(picture, size=(64, 80)) for name, picture in batch.items()}
    for iteration in range(3):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        optimizer.zero_grad()
        total = sum(
            loss(restored, resize(batch["gt"], restored.shape[-2:])) for restored in net(batch["lq"], all_scales=True)
        )
        total.backward()
        optimizer.step()
        assert model.get_current_log()["l_pix"] == total.item()
    for ours, theirs in zip(model.net_g.parameters(), net.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_scale_weights(build, batch):
    model = build(scale_weights=[1, 0.5, 0])
    model.feed_data(batch)
    pyramid = restore_pyramid(model.net_g, model.net_g, batch["lq"])
    total, losses = model.multi_scale_loss(pyramid, batch["gt"])
    expected = [(picture - resize(batch["gt"], picture.shape[-2:])).abs().mean() for picture in pyramid]
    torch.testing.assert_close(total, expected[0] + 0.5 * expected[1])
    assert list(losses) == ["l_pix", "l_pix_scale0", "l_pix_scale1"]
    torch.testing.assert_close(losses["l_pix_scale1"], expected[1])


@pytest.mark.parametrize("network", ["OnePicture", "CoarsestFirst"])
def test_networks_with_one_picture_or_their_own_order(build, batch, network):
    model = build({"type": network})
    model.feed_data(batch)
    pyramid = restore_pyramid(model.net_g, model.net_g, batch["lq"])
    assert [picture.shape[-1] for picture in pyramid] == ([40] if network == "OnePicture" else [40, 20, 10])
    model.optimize_parameters(1)
    assert model.output.shape == batch["gt"].shape
    model.test()
    assert model.output.shape == batch["gt"].shape


def bytes_batch():
    """Every byte value, so that a rounded reciprocal of 255 would show."""
    pictures = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16).contiguous()
    return {"lq": pictures, "gt": pictures.flip(-1)}


@pytest.mark.parametrize("channels_last", [None, False, True])
def test_bytes_become_float_on_the_device(build, channels_last):
    model = build(acceleration={"channels_last": channels_last})
    as_bytes = bytes_batch()
    as_float = {name: torch.from_numpy(picture.numpy().astype(np.float32) / 255) for name, picture in as_bytes.items()}
    for batch in (as_bytes, as_float):
        model.feed_data(batch)
        for name, picture in (("lq", model.lq), ("gt", model.gt)):
            assert torch.equal(picture, as_float[name])
            assert picture.is_contiguous(memory_format=torch.channels_last) is bool(channels_last)
    assert torch.equal(as_bytes["lq"], bytes_batch()["lq"]), "the batch itself stays as it was"


@pytest.mark.cuda
def test_bytes_become_float_on_a_gpu():
    from basicsr.data.prefetch_dataloader import CUDAPrefetcher

    model = object.__new__(multiscale_model.MultiScaleDeblurModel)
    model.device, model.acceleration = torch.device("cuda"), Acceleration(channels_last=True)
    samples = [{name: picture[0] for name, picture in bytes_batch().items()}] * 4
    loader = torch.utils.data.DataLoader(samples, batch_size=2, pin_memory=True)
    prefetcher = CUDAPrefetcher(loader, {"num_gpu": 1})
    for _ in range(2):
        model.feed_data(prefetcher.next())
        for name, picture in (("lq", model.lq), ("gt", model.gt)):
            assert picture.is_cuda
            assert picture.is_contiguous(memory_format=torch.channels_last)
            expected = bytes_batch()[name].numpy().astype(np.float32) / 255
            np.testing.assert_array_equal(picture.cpu().numpy(), expected)
    assert prefetcher.next() is None


def test_wrong_number_of_scale_weights(build):
    with pytest.raises(InputError, match=r"train.scale_weights has 3 weights and the network OnePicture returns 1 "):
        build({"type": "OnePicture"}, scale_weights=[1, 1, 1])
    with pytest.raises(InputError, match=r"train.scale_weights are all 0"):
        build(scale_weights=[0, 0, 0])


def test_gradient_clipping(build, batch):
    model = build(grad_clip_norm=1e-3, optim_g={"type": "Adam", "lr": 0.0})
    model.feed_data(batch)
    model.optimize_parameters(1)
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.net_g.parameters()])
    assert gradients.norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_adamw(build):
    optimizer = build(optim_g={"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1}).optimizer_g
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_ema_averages_weights_and_copies_buffers(build, batch):
    model = build({"type": "OnePicture"}, ema_decay=0.75)
    before = model.net_g_ema.layer.weight.clone()
    model.feed_data(batch)
    model.optimize_parameters(1)
    torch.testing.assert_close(model.net_g_ema.layer.weight, 0.75 * before + 0.25 * model.net_g.layer.weight)
    assert model.net_g.norm.running_mean.abs().sum() > 0
    assert torch.equal(model.net_g_ema.norm.running_mean, model.net_g.norm.running_mean)
    assert model.net_g_ema.norm.num_batches_tracked == 1


@pytest.mark.parametrize("block", ["acrb", "resblock", "dcb", "rdb"])
def test_ema_follows_whatever_the_block(build, batch, block):
    model = build({"type": "MACR", "num_feat": 8, "num_blocks": 1, "block": block}, ema_decay=0.75)
    before = copy.deepcopy(model.net_g.state_dict())
    model.feed_data(batch)
    model.optimize_parameters(1)
    after = model.net_g.state_dict()
    for name, averaged in model.net_g_ema.named_parameters():
        torch.testing.assert_close(averaged, 0.75 * before[name] + 0.25 * after[name])
    assert torch.equal(model.net_g_ema.state_dict()["_extra_state"], after["_extra_state"])


class Frames(torch.utils.data.Dataset):
    """The frames of a validation set."""

    def __init__(self, paths=("scene1/000001", "scene2/000001"), with_sharp=True):
        self.opt = {"name": "val"}
        self.paths, self.with_sharp = paths, with_sharp
        generator = torch.Generator().manual_seed(2)
        # Sizes differ and are not divisible by anything that the network needs.
        self.pictures = [torch.rand(2, 1, 3, 37 + index, 51, generator=generator) for index in range(len(paths))]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        blurred, sharp = self.pictures[index][:, 0]
        path = self.paths[index]
        pair = {"lq": blurred, "gt": sharp, "lq_path": path, "gt_path": path}
        return pair if self.with_sharp else {"lq": blurred, "lq_path": path}


def frame_loader(**frames):
    return torch.utils.data.DataLoader(Frames(**frames))


def as_uint8(picture):
    """RGB tensor in [0, 1] to BGR uint8, written out."""
    return np.rint(picture[0].clamp(0, 1).numpy()[::-1].transpose(1, 2, 0) * 255).astype(np.uint8)


def test_validation_measures_full_frames_and_their_input(build, caplog, tmp_path):
    basicsr.utils.get_root_logger().propagate = True
    model = build()
    model.opt["val"]["comparison_frames"] = 1
    loader = frame_loader()
    with caplog.at_level(logging.INFO, "basicsr"):
        model.validation(loader, 5, None, save_img=True)
    pictures = loader.dataset.pictures
    with torch.no_grad():
        restored = [as_uint8(model.net_g(blurred)) for blurred, _ in pictures]
    sharp = [as_uint8(picture) for _, picture in pictures]
    blurred = [as_uint8(picture) for picture, _ in pictures]
    expected, expected_blurred = (
        np.mean([calculate_psnr(one, two, 0) for one, two in zip(pictures, sharp, strict=True)])
        for pictures in (restored, blurred)
    )
    assert model.metric_results["psnr"] == pytest.approx(expected)
    assert f"psnr: {expected:.4f}\tblurred input: {expected_blurred:.4f}\tgain: {expected - expected_blurred:+.4f}" in (
        caplog.text
    )
    folder = tmp_path / "visualization"
    # Equal frame names in two scenes do not overwrite each other.
    for scene, picture in zip(("scene1", "scene2"), restored, strict=True):
        saved = cv2.imread(str(folder / scene / "000001" / "000001_5.png"))
        assert np.array_equal(saved, picture)
    comparison = cv2.imread(str(folder / "val_comparison_5.png"))
    height = len(sharp[0])
    assert comparison.shape[1] == 3 * 51 + 2 * 4
    assert np.array_equal(comparison[-height:, :51], blurred[0])
    assert np.array_equal(comparison[-height:, 55:106], restored[0])
    assert np.array_equal(comparison[-height:, 110:], sharp[0])
    assert model.net_g.training


def test_the_last_validation_belongs_to_the_last_iteration(build):
    """BasicSR validates after training as iteration 11 of 10, whether or not iteration 10 was validated."""
    model = build()
    model.validation(frame_loader(), 11, None, save_img=False)
    assert model.best_metric_results["val"]["psnr"]["iter"] == 10


def test_the_last_iteration_is_validated_once(build, caplog):
    basicsr.utils.get_root_logger().propagate = True
    model = build()
    with caplog.at_level(logging.INFO, "basicsr"):
        for iteration in (5, 10, 11):
            model.validation(frame_loader(), iteration, None, save_img=False)
    assert caplog.text.count("Validation val") == 2


def test_frames_without_a_sharp_partner_are_restored_only(build, caplog, tmp_path):
    basicsr.utils.get_root_logger().propagate = True
    model = build(is_train=False)
    with caplog.at_level(logging.INFO, "basicsr"):
        model.validation(frame_loader(with_sharp=False), "run", None, save_img=True)
    assert "psnr" not in caplog.text
    assert len(list((tmp_path / "visualization").rglob("*.png"))) == 2


def test_pictures_of_a_test_run(build, tmp_path):
    model = build(is_train=False)
    model.validation(frame_loader(), "run", None, save_img=True)
    model.opt["val"]["suffix"] = "mine"
    model.validation(frame_loader(), "run", None, save_img=True)
    folder = tmp_path / "visualization" / "val" / "scene2"
    assert sorted(path.name for path in folder.iterdir()) == ["000001_mine.png", "000001_run.png"]


def test_test_uses_the_averaged_weights(build, batch):
    model = build(ema_decay=0.5)
    for parameter in model.net_g.parameters():
        parameter.data.zero_()
    model.feed_data(batch)
    model.test()
    assert not torch.equal(model.output, batch["lq"]), "zero weights would return the input"


def test_pyramids_are_sorted_by_size():
    sizes = [(1, 3, 8, 4), (1, 3, 32, 16), (1, 3, 16, 8)]
    assert [picture.shape[-1] for picture in finest_first(torch.zeros(size) for size in sizes)] == [16, 8, 4]


def test_checkpoint_and_resume_round_trip(build, batch, tmp_path):
    model = build(ema_decay=0.9)
    model.feed_data(batch)
    model.optimize_parameters(1)
    model.save(epoch=0, current_iter=1)
    model.save(epoch=-1, current_iter=-1)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["net_g_1.pth", "net_g_latest.pth"]
    assert [path.name for path in (tmp_path / "training_states").iterdir()] == ["1.state"]
    weights = torch.load(tmp_path / "models" / "net_g_1.pth", weights_only=True)
    assert set(weights) == {"params", "params_ema", "network_g"}
    assert set(weights["params"]) == set(model.net_g.state_dict())

    again = build(ema_decay=0.9)
    again.load_network(again.net_g, str(tmp_path / "models" / "net_g_1.pth"))
    again.resume_training(torch.load(tmp_path / "training_states" / "1.state", weights_only=True))
    for one in (model, again):
        one.feed_data(batch)
        one.optimize_parameters(2)
    for ours, theirs in zip(model.net_g.parameters(), again.net_g.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_full_disk_keeps_the_old_checkpoint(build, tmp_path, monkeypatch):
    model = build()
    model.save(epoch=0, current_iter=1)
    before = (tmp_path / "models" / "net_g_1.pth").read_bytes()

    def half_written(content, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multiscale_model.torch, "save", half_written)
    with pytest.raises(InputError, match=r"net_g_1.pth could not be written .*No space left.*--auto_resume"):
        model.save(epoch=0, current_iter=1)
    assert (tmp_path / "models" / "net_g_1.pth").read_bytes() == before
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["net_g_1.pth"]


def test_stock_srmodel_trains_macr(build, batch):
    opt = build().opt
    opt["model_type"] = "SRModel"
    opt["train"]["optim_g"]["type"] = "Adam"
    opt["train"]["scheduler"]["type"] = "MultiStepLR"
    model = build_model(opt)
    assert type(model).__name__ == "SRModel"
    model.feed_data(batch)
    model.optimize_parameters(1)
    assert model.output.shape == batch["gt"].shape


@pytest.mark.parametrize("layout", ["plain", "state_dict", "module"])
def test_training_starts_from_weights_of_other_projects(build, tmp_path, layout):
    weights = {name: value.detach() + 1 for name, value in build().net_g.named_parameters()}
    content = {
        "plain": weights,
        "state_dict": {"state_dict": weights},
        "module": {f"module.{name}": value for name, value in weights.items()},
    }[layout]
    torch.save(content, tmp_path / "w.pth")
    model = build()
    model.load_network(model.net_g, str(tmp_path / "w.pth"), True, "params")
    assert all(torch.equal(value, weights[name]) for name, value in model.net_g.named_parameters())


def test_weights_that_do_not_fit(build, tmp_path):
    weights = dict(build().net_g.named_parameters())
    name = next(iter(weights))
    torch.save({"params": {**weights, name: torch.zeros(1), "more": torch.zeros(1)}}, tmp_path / "w.pth")
    model = build()
    with pytest.raises(
        InputError, match=r"w.pth do not fit .*: 1 unknown to the network, first more; .* has the shape"
    ):
        model.load_network(model.net_g, str(tmp_path / "w.pth"))
    model.load_network(model.net_g, str(tmp_path / "w.pth"), False)
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="hold no state dict"):
        model.load_network(model.net_g, str(tmp_path / "w.pth"))


def test_options_that_change_no_shape_are_said(build, tmp_path, caplog):
    model = build()
    model.save(epoch=0, current_iter=1)
    file = str(tmp_path / "models" / "net_g_1.pth")
    with caplog.at_level("WARNING", logger="basicsr"):
        model.load_network(model.net_g, file)
        assert "other options" not in caplog.text
        model.opt["network_g"]["some_option"] = True
        model.load_network(model.net_g, file)
    assert "other options of network_g: some_option: left out, now True" in caplog.text
