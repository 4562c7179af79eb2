"""Model class that trains the motion classifier of a deblurring network."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from macr_plugin.archs.motion_field import CLASSES, motion_distance
from macr_plugin.models.acceleration import Losses
from macr_plugin.models.multiscale_model import MultiScaleDeblurModel


class MotionClassifierModel(MultiScaleDeblurModel):
    """Trains the part of ``SunMotionNet`` that learns: by which motion was a patch blurred?

    A training set gives patches with the numbers of their motions, as ``LinearMotionPatchDataset``, and
    ``train.pixel_opt`` compares, as ``MotionCrossEntropyLoss``. A validation set that gives such patches is measured by
    the share of right motions (``accuracy``) and the mean distance to the true ones in pixels (``motion_error``); one
    that gives blurred and sharp frames is restored and measured as by :class:`MultiScaleDeblurModel`, whose options
    this class shares, ``scale_weights`` and ``perceptual_opt`` excepted.

    Registered as ``MotionClassifierModel`` in BasicSR's ``MODEL_REGISTRY``.

    Args:
        opt: BasicSR's options.
    """

    def check_network_output(self) -> None:
        """Nothing to check: the training compares logits, and restoring a picture by deconvolution takes long."""

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch to the device.

        Args:
            data: ``lq``, and either ``label``, shape (N,), or ``gt``, or neither.
        """
        super().feed_data(data)
        if "label" in data:
            self.gt = data["label"].to(self.device, non_blocking=True)

    def restore_and_compare(self, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Losses, Tensor]:
        """Classify a batch of patches and compare with the truth.

        Args:
            blurred: Patches, shape (N, 3, 30, 30), RGB in [0, 1].
            sharp: Number of the motion of each, shape (N,).

        Returns:
            The loss, its parts for the log, and the logits.
        """
        with self.acceleration.autocast(self.device):
            logits = self.net_g(blurred, return_logits=True)
        loss = self.cri_pix(logits, sharp)
        with torch.no_grad():
            right = (logits.flatten(1).argmax(dim=1) == sharp).float().mean()
        return loss, {"l_pix": loss, "accuracy": right}, logits

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Measure a data set: patches by their motions, frames as :class:`MultiScaleDeblurModel` does.

        Args:
            dataloader: Gives patches or frames.
            current_iter: Iteration, or the name of the test run.
            tb_logger: TensorBoard writer or None.
            save_img: Whether to save every restored frame.
        """
        if "label" not in dataloader.dataset[0]:
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        name = dataloader.dataset.opt["name"]
        # Patches are few and small: the first process measures them alone.
        if self.opt["rank"] == 0:
            self.metric_results = self._measure_patches(dataloader)
            figures = "\t".join(f"# {metric}: {value:.4f}" for metric, value in self.metric_results.items())
            get_root_logger().info(f"Validation {name}, {len(dataloader.dataset)} patches\t {figures}")
            for metric, value in self.metric_results.items():
                if tb_logger:
                    tb_logger.add_scalar(f"metrics/{name}/{metric}", value, current_iter)
        if self.is_train:
            self.save_after_validation(name, current_iter)

    @torch.no_grad()
    def _measure_patches(self, dataloader: Any) -> dict[str, float]:
        """Share of right motions and mean distance to the true ones in pixels."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        vectors = CLASSES.vectors().to(self.device, torch.float32)
        found, true = [], []
        for data in dataloader:
            self.feed_data(data)
            found.append(net(self.lq, return_logits=True).flatten(1).argmax(dim=1))
            true.append(self.gt)
        found_labels, true_labels = torch.cat(found), torch.cat(true)
        return {
            "accuracy": (found_labels == true_labels).float().mean().item(),
            "motion_error": motion_distance(vectors[found_labels], vectors[true_labels]).mean().item(),
        }
