"""Mistakes in option files are named before anything is built, with the right key."""

import copy
from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import pytest
import yaml
from stock_options import STOCK_OPTIONS

from macr_plugin.errors import InputError
from macr_plugin.options.check import check_options

OPTIONS = Path(__file__).parents[2] / "options"


@pytest.fixture
def opt():
    return copy.deepcopy(yaml.safe_load((OPTIONS / "macr_gopro.yml").read_text()))


# Option files of a benchmark are of another kind and checked by tests of their own.
SHIPPED = [path for path in sorted(OPTIONS.rglob("*.yml")) if "model_type" in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_options_pass(path):
    check_options(yaml.safe_load(path.read_text()))


def put(opt, key, value):
    *blocks, last = key.split(".")
    for block in blocks:
        opt = opt[block]
    opt[last] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "MultiScaleModel", "model_type: unknown model 'MultiScaleModel': did you mean MultiScaleDeblur"),
        ("network_g.type", "MARC", "network_g.type: unknown network 'MARC': did you mean MACR?"),
        ("network_g.type", None, "network_g.type: is missing: it names the network, one of "),
        ("network_g.num_feats", 8, "network_g.num_feats: unknown option of MACR 'num_feats': did you mean num_feat?"),
        ("network_g.xyz", 8, "network_g.xyz: unknown option of MACR 'xyz': known are "),
        ("train.pixel_opt.type", "MACRLos", "train.pixel_opt.type: unknown loss 'MACRLos': did you mean MACRLoss?"),
        ("train.pixel_opt.l1_wieght", 1, "train.pixel_opt.l1_wieght: unknown option of MACRLoss"),
        ("datasets.val.type", "DeblurPairs", "datasets.val.type: unknown dataset 'DeblurPairs': did you mean Deblur"),
        ("datasets.train.gtsize", 8, "datasets.train.gtsize: unknown key 'gtsize': did you mean gt_size?"),
        ("val.metrics.psnr.type", "psnr", "val.metrics.psnr.type: unknown metric 'psnr'"),
        ("val.keep_best", "psrn", "val.keep_best: unknown metric of val.metrics 'psrn': did you mean psnr?"),
        ("train.ema_deacy", 0.9, "train.ema_deacy: unknown key 'ema_deacy': did you mean ema_decay?"),
        (
            "train.acceleration",
            {"chanels_last": True},
            "train.acceleration.chanels_last: unknown key 'chanels_last': did",
        ),
        ("manual_sed", 1, "manual_sed: unknown key 'manual_sed': did you mean manual_seed?"),
        ("train.optim_g.lr", "1e-4", "train.optim_g.lr: YAML reads 1e-4 as text: write !!float 1e-4"),
        (
            "train.scheduler",
            {"type": "CosineAnnealingRestartLR", "periods": [10, 20]},
            "train.scheduler.periods: add up to 30, fewer than train.total_iter 3153000",
        ),
    ],
)
def test_mistakes_are_named(opt, key, value, message):
    put(opt, key, value)
    with pytest.raises(InputError) as caught:
        check_options(opt)
    assert str(caught.value).startswith(message)


def test_other_models_may_have_keys_of_their_own(opt):
    opt["model_type"] = "SRModel"
    for dataset in opt["datasets"].values():
        del dataset["uint8"]
    opt["train"]["their_key"] = 1
    check_options(opt)


def test_classes_that_take_anything_are_not_second_guessed(opt):
    from basicsr.utils.registry import ARCH_REGISTRY

    class TakesAnything:
        def __init__(self, **kwargs):
            pass

    ARCH_REGISTRY._obj_map["TakesAnything"] = TakesAnything
    try:
        opt["network_g"] = {"type": "TakesAnything", "whatever": 1}
        check_options(opt)
    finally:
        del ARCH_REGISTRY._obj_map["TakesAnything"]


@pytest.fixture
def synthetic():
    return yaml.safe_load((OPTIONS / "macr_synthetic.yml").read_text())


def test_keys_of_another_dataset_are_refused(opt, synthetic):
    put(synthetic, "datasets.train.blur_extend", [4, 24])
    with pytest.raises(InputError, match=r"datasets\.train\.blur_extend: unknown key .* did you mean blur_extent\?"):
        check_options(synthetic)
    put(opt, "datasets.train.render_on", "device")
    with pytest.raises(InputError, match=r"datasets\.train\.render_on: unknown key"):
        check_options(opt)


def test_rendering_on_the_device_needs_a_model_that_renders(synthetic):
    synthetic["model_type"] = "SRModel"
    put(synthetic, "datasets.train.uint8", False)
    with pytest.raises(InputError, match=r"datasets\.train\.render_on: device needs model_type: MultiScaleDeblurModel"):
        check_options(synthetic)
    put(synthetic, "datasets.train.render_on", "cpu")
    check_options(synthetic)


def test_bytes_need_a_model_that_converts_them(opt):
    opt["datasets"]["train"]["uint8"] = True
    check_options(opt)
    opt["model_type"] = "SRModel"
    with pytest.raises(
        InputError, match=r"datasets\.train\.uint8: SRModel takes float pictures only: remove it, or set"
    ):
        check_options(opt)


@pytest.fixture
def adversarial():
    return yaml.safe_load((OPTIONS / "baselines" / "deepdeblur_gan_gopro.yml").read_text())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.net_d_iter", 2, "train.net_d_iter: unknown key 'net_d_iter': did you mean net_d_iters?"),
        ("train.gan_opt.gan_typ", "wgan", "train.gan_opt.gan_typ: unknown option of GANLoss 'gan_typ': did you mean"),
        ("network_d.num_fea", 8, "network_d.num_fea: unknown option of DeepDeblurDiscriminator 'num_fea'"),
        ("network_d", None, "network_d: is missing: MultiScaleDeblurGANModel trains a discriminator: see "),
        ("train.gan_opt", None, "train.gan_opt: is missing: MultiScaleDeblurGANModel trains a discriminator"),
        ("train.optim_d", None, "train.optim_d: is missing: MultiScaleDeblurGANModel trains a discriminator"),
    ],
)
def test_mistakes_of_an_adversarial_training_are_named(adversarial, key, value, message):
    put(adversarial, key, value)
    with pytest.raises(InputError) as caught:
        check_options(adversarial)
    assert str(caught.value).startswith(message)


def test_keys_of_an_adversarial_training_are_its_own(opt, adversarial):
    put(opt, "train.gan_opt", adversarial["train"]["gan_opt"])
    with pytest.raises(InputError, match=r"train\.gan_opt: unknown key 'gan_opt'"):
        check_options(opt)


def test_a_test_needs_no_discriminator(adversarial):
    del adversarial["train"], adversarial["network_d"]
    check_options(adversarial)


@pytest.mark.parametrize("name", STOCK_OPTIONS)
def test_options_of_stock_models_are_accepted(name):
    check_options(copy.deepcopy(STOCK_OPTIONS[name]))


@pytest.mark.parametrize(
    "registry", ["MODEL_REGISTRY", "ARCH_REGISTRY", "LOSS_REGISTRY", "DATASET_REGISTRY", "METRIC_REGISTRY"]
)
def test_every_name_that_a_registry_answers_to_is_accepted(registry, monkeypatch):
    """BasicSR's registries also answer to a name without the suffix of its own classes."""
    from basicsr.utils import registry as registries

    registry = getattr(registries, registry)

    class Theirs:
        pass

    monkeypatch.setattr(registry, "_obj_map", {**registry._obj_map, "Theirs_basicsr": Theirs})
    assert registry.get("Theirs") is Theirs
    opt = copy.deepcopy(STOCK_OPTIONS["SRResNet"])
    for block in (
        opt["datasets"]["train"],
        opt["network_g"],
        opt["train"]["pixel_opt"],
        opt["val"]["metrics"]["psnr"],
    ):
        if block["type"] in registry:
            block.clear()
            block["type"] = "Theirs"
    if registry is registries.MODEL_REGISTRY:
        opt["model_type"] = "Theirs"
    assert "Theirs" in str(opt)
    check_options(opt)
