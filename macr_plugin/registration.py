"""What the plugin adds to BasicSR's registries, in one table."""

from __future__ import annotations

import warnings
from typing import Any


def register_all() -> None:
    """Add every class and metric of the plugin to the BasicSR registry it belongs to; idempotent.

    A name that is taken by somebody else is skipped with a warning.
    """
    # Here rather than above: these imports need torch, and the models need BasicSR, which may be what is importing us.
    from basicsr.utils import registry

    from macr_plugin.archs.deepdeblur_arch import DeepDeblur, DeepDeblurDiscriminator
    from macr_plugin.archs.macr_arch import MACR
    from macr_plugin.archs.spandrel_arch import SpandrelNet
    from macr_plugin.archs.srn_arch import SRNDeblurNet
    from macr_plugin.archs.sun_arch import SunMotionNet
    from macr_plugin.data.datasets.deblur_pair_dataset import DeblurPairDataset
    from macr_plugin.data.datasets.linear_motion_patch_dataset import LinearMotionPatchDataset
    from macr_plugin.data.datasets.synthetic_motion_blur_dataset import SyntheticMotionBlurDataset
    from macr_plugin.losses.fourier_loss import MACRFourierLoss
    from macr_plugin.losses.motion_loss import MotionCrossEntropyLoss
    from macr_plugin.losses.structural_loss import MACRLoss, MACRMSSSIMLoss, MACRSSIMLoss
    from macr_plugin.metrics.metric_table import METRICS
    from macr_plugin.models.motion_classifier_model import MotionClassifierModel
    from macr_plugin.models.multiscale_gan_model import MultiScaleDeblurGANModel
    from macr_plugin.models.multiscale_model import MultiScaleDeblurModel

    for target, entries in (
        (registry.ARCH_REGISTRY, (MACR, DeepDeblur, DeepDeblurDiscriminator, SRNDeblurNet, SpandrelNet, SunMotionNet)),
        (registry.LOSS_REGISTRY, (MACRLoss, MACRSSIMLoss, MACRMSSSIMLoss, MACRFourierLoss, MotionCrossEntropyLoss)),
        (registry.DATASET_REGISTRY, (DeblurPairDataset, SyntheticMotionBlurDataset, LinearMotionPatchDataset)),
        (registry.METRIC_REGISTRY, [metric.calculate for metric in METRICS]),
        (registry.MODEL_REGISTRY, (MultiScaleDeblurModel, MultiScaleDeblurGANModel, MotionClassifierModel)),
    ):
        for entry in entries:
            _register_once(target, entry)


def _register_once(target: Any, entry: Any) -> None:
    """Register a class or function under its name unless that name is taken."""
    name = entry.__name__
    if name not in target:
        target.register(entry)
    elif target.get(name) is not entry:
        warnings.warn(
            f"BasicSR knows another {name} already ({target.get(name).__module__}); "
            "the one of macr_plugin is not registered.",
            RuntimeWarning,
            stacklevel=2,
        )
