"""Model class that supervises every scale of a deblurring network."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from macr_plugin.archs.pyramid import resize
from macr_plugin.data.datasets.bad_samples import SKIPPED
from macr_plugin.data.synthesis.torch_rendering import with_rendered_blur
from macr_plugin.errors import InputError
from macr_plugin.losses import MACRLoss
from macr_plugin.metrics.structural_similarity import at_least_float32
from macr_plugin.models.acceleration import (
    Acceleration,
    Losses,
    allow_tf32,
    choose_acceleration,
    updates_on_device,
)
from macr_plugin.models.divergence import STOP, DivergenceWatch
from macr_plugin.models.memory_layout import lay_out
from macr_plugin.models.network_output import count_scales, finest, restore_pyramid
from macr_plugin.models.training_step import TrainingStep, fused_update
from macr_plugin.models.validated_model import ValidatedModel
from macr_plugin.options.optimization import optimizers, schedulers


class MultiScaleDeblurModel(ValidatedModel):
    """Trains a network on the loss of every scale that it returns, and validates it on full frames.

    Works with any registered network: one that takes ``forward(x, all_scales=True)`` is asked for its pyramid, one that
    returns a list is taken at its word, and one that returns a picture is a pyramid of one scale. The loss of a scale
    compares its picture with the sharp picture resized to exactly its size.

    Registered as ``MultiScaleDeblurModel`` in BasicSR's ``MODEL_REGISTRY``. On top of
    :class:`~macr_plugin.models.validated_model.ValidatedModel`'s options it reads:

    * ``train.scale_weights``: weight of each scale's loss, finest first; by default each is 1. ``[1, 0, 0]`` supervises
      the finest picture only.
    * ``train.grad_clip_norm``: largest norm of the gradient over all parameters; by default it is not clipped.
    * ``train.optim_g.type`` and ``train.scheduler.type``: see :mod:`macr_plugin.options.optimization`.
    * ``train.on_nonfinite``: what to do where a loss is not finite: ``stop``, the default, ends the training and keeps
      the batch in a file; ``skip`` takes the gradient of such a step as 0.
    * ``train.acceleration``: how the steps run; see
      :func:`~macr_plugin.models.acceleration.choose_acceleration`. By default as PyTorch runs them by itself.

    Args:
        opt: BasicSR's options.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.acceleration = Acceleration()
        self.num_skipped = 0
        if opt["is_train"]:
            device = torch.device("cuda" if opt["num_gpu"] else "cpu")
            self.acceleration = choose_acceleration(opt["train"].get("acceleration"), device)
            if self.acceleration.precision in ("fp32", "tf32"):
                allow_tf32(self.acceleration.precision == "tf32")
        super().__init__(opt)
        self.check_network_output()

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Take a network to the device, wrapped for data parallel training unless the step averages its gradients."""
        net = lay_out(net, self.acceleration.memory_format)
        if not (self.opt["dist"] and self.acceleration.averages_gradients):
            return super().model_to_device(net)
        net = net.to(self.device)
        for value in net.state_dict().values():
            torch.distributed.broadcast(value, src=0)
        return net

    def init_training_settings(self) -> None:
        """Set up losses, optimizers and the options of this class.

        Raises:
            InputError: If ``train.scale_weights`` weighs nothing.
        """
        self.scale_weights: Sequence[float] | None = self.opt["train"].get("scale_weights")
        if self.scale_weights is not None and not any(self.scale_weights):
            raise InputError("train.scale_weights are all 0: give at least the first, the finest scale, a weight")
        self.grad_clip_norm: float | None = self.opt["train"].get("grad_clip_norm")
        self.watch = DivergenceWatch(
            self.device, Path(self.opt["path"]["models"]).parent, self.opt["train"].get("on_nonfinite", STOP)
        )
        super().init_training_settings()
        if self.ema_decay > 0:
            lay_out(self.net_g_ema, self.acceleration.memory_format)
        self.training_step = TrainingStep(
            self.acceleration,
            self.restore_and_compare,
            self.optimizer_g,
            self.update_average,
            self.grad_clip_norm,
            self.device,
            processes=self.opt["world_size"] if self.opt["dist"] and self.acceleration.averages_gradients else 1,
            skipping=self.net_g if self.watch.skips else None,
        )

    def check_network_output(self) -> None:
        """Refuse a network that returns anything but pictures, or other scales than ``train.scale_weights`` weighs.

        Raises:
            InputError: Saying what it returns.
        """
        crop_size = self.opt.get("datasets", {}).get("train", {}).get("gt_size")
        net = self.get_bare_model(self.net_g)
        num_scales = count_scales(net, self.opt["network_g"]["type"], self.is_train, self.device, crop_size)
        if self.is_train and num_scales is not None:
            self._weights_of_scales(num_scales)

    def _weights_of_scales(self, num_scales: int) -> Sequence[float]:
        """Weight of each scale's loss, finest first."""
        weights = self.scale_weights if self.scale_weights is not None else [1.0] * num_scales
        if len(weights) != num_scales:
            raise InputError(
                f"train.scale_weights has {len(weights)} weights and the network {self.opt['network_g']['type']} "
                f"returns {num_scales} scale(s): give one weight for each, finest first"
            )
        return weights

    def get_optimizer(self, optim_type: str, params: Iterable[nn.Parameter], **kwargs: Any) -> Any:
        """Build an optimizer of torch, which updates as the acceleration needs; BasicSR 1.4.2 knows Adam only.

        Args:
            optim_type: Its name in ``torch.optim``.
            params: What it trains.
            **kwargs: Its arguments, such as ``lr``.
        """
        kind = optimizers()[optim_type]
        if updates_on_device(self.acceleration, self.device):
            known = inspect.signature(kind).parameters
            kwargs = {name: value for name, value in fused_update(kwargs).items() if name in known}
        return kind(params, **kwargs)

    def setup_schedulers(self) -> None:
        """Let every optimizer follow ``train.scheduler``; BasicSR 1.4.2 knows its own schedules only."""
        options = dict(self.opt["train"]["scheduler"])
        kind = schedulers()[options.pop("type")]
        self.schedulers = [kind(optimizer, **options) for optimizer in self.optimizers]

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch to the device; uint8 pictures become float there, a quarter of the bytes to move.

        Args:
            data: ``lq`` and, where there is one, ``gt``: (N, 3, H, W) RGB, float in [0, 1] or uint8 in 0 to 255.
                Instead of ``lq``, what ``SyntheticMotionBlurDataset`` gives with ``render_on: device``.
        """
        self._count_skipped(data.get(SKIPPED, ()))
        data = with_rendered_blur(data, self.device)
        self.lq = self._to_device(data["lq"])
        if "gt" in data:
            self.gt = self._to_device(data["gt"])
        self.keys = list(data.get("lq_path", ()))

    def _count_skipped(self, reasons: Sequence[str]) -> None:
        """Log the samples of a batch that others stand in for."""
        for reason in filter(None, reasons):
            self.num_skipped += 1
            get_root_logger().warning(f"on_bad_sample: skip: {self.num_skipped} so far in this process: {reason}")

    def _to_device(self, pictures: Tensor) -> Tensor:
        layout = self.acceleration.memory_format
        pictures = pictures.to(self.device, non_blocking=True)
        if pictures.dtype != torch.uint8:
            return pictures.to(memory_format=layout)
        # By a tensor on the device: CUDA multiplies by the rounded reciprocal of a Python number.
        return pictures.to(torch.float32, memory_format=layout).div_(pictures.new_full((), 255, dtype=torch.float32))

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step on the pictures of ``feed_data``, without waiting for the device.

        Args:
            current_iter: Number of the iteration, counted from 1.
        """
        self.output, self.losses = self.training_step(self.lq, self.gt)
        self.watch_step(current_iter)

    def watch_step(self, current_iter: int) -> None:
        """Remember a step whose losses are not finite."""
        batch = {"lq": self.lq, "gt": self.gt}
        self.watch.observe(current_iter, self.losses, batch, self.keys, self.get_current_learning_rate()[0])

    def get_current_log(self) -> OrderedDict[str, float]:
        """Losses of the last step, averaged over the processes, all of which must ask; waits for the device.

        Raises:
            InputError: If the losses are no longer finite.
        """
        self.watch.check(get_root_logger().warning)
        return self.reduce_loss_dict(self.losses)

    def restore_and_compare(self, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Losses, Tensor]:
        """Restore a batch and compare it with the sharp one.

        Args:
            blurred: Shape (N, 3, H, W), RGB in [0, 1].
            sharp: Likewise.

        Returns:
            The loss to minimize, its parts for the log, and the finest restored pictures.
        """
        with self.acceleration.autocast(self.device):
            pyramid = restore_pyramid(self.net_g, self.get_bare_model(self.net_g), blurred)
        pyramid = [at_least_float32(picture) for picture in pyramid]
        total, losses = self.multi_scale_loss(pyramid, sharp)
        return total, losses, pyramid[0]

    def multi_scale_loss(self, pyramid: Sequence[Tensor], sharp: Tensor) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        """Weighted sum of the pixel losses of all scales, and the perceptual loss of the finest.

        Args:
            pyramid: Restored pictures, finest first, (N, 3, H_i, W_i), RGB in [0, 1] or a little outside.
            sharp: What they should be, at the finest size, (N, 3, H, W), RGB in [0, 1].

        Returns:
            The sum, and its parts for the log: ``l_pix`` is the sum over the scales, ``l_pix_scale0`` the unweighted
            loss of the finest scale, and so on.

        Raises:
            InputError: If ``train.scale_weights`` does not have one weight for each scale, or the finest picture is not
                of the size of the sharp one.
        """
        if pyramid[0].shape != sharp.shape:
            raise InputError(
                f"network_g {self.opt['network_g']['type']} returns pictures of shape {tuple(pyramid[0].shape)} for "
                f"sharp ones of {tuple(sharp.shape)}: a network that deblurs keeps the size"
            )
        weights = self._weights_of_scales(len(pyramid))
        losses: OrderedDict[str, Tensor] = OrderedDict()
        total = sharp.new_zeros(())
        if self.cri_pix:
            scales = [scale for scale, weight in enumerate(weights) if weight]
            chosen = [pyramid[scale] for scale in scales]
            targets = [resize(sharp, (restored.shape[-2], restored.shape[-1])) for restored in chosen]
            for scale, loss in zip(scales, losses_of_scales(self.cri_pix, chosen, targets), strict=True):
                losses[f"l_pix_scale{scale}"] = loss
                total = total + weights[scale] * loss
            losses["l_pix"] = total
            losses.move_to_end("l_pix", last=False)
        if self.cri_perceptual:
            for name, part in zip(("l_percep", "l_style"), self.cri_perceptual(pyramid[0], sharp), strict=True):
                if part is not None:
                    losses[name] = part
                    total = total + part
        return total, losses

    def update_average(self) -> None:
        """Move the averaged weights, if there are any, after an update."""
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights towards the current ones, and copy the buffers, which BasicSR leaves behind.

        Args:
            decay: Share of the average that is kept.
        """
        net = self.get_bare_model(self.net_g)
        averaged_weights = list(self.net_g_ema.parameters())
        torch._foreach_mul_(averaged_weights, decay)
        torch._foreach_add_(averaged_weights, list(net.parameters()), alpha=1 - decay)
        if buffers := list(net.buffers()):
            torch._foreach_copy_(list(self.net_g_ema.buffers()), buffers)

    def test(self) -> None:
        """Restore the pictures of ``feed_data`` with the averaged weights, or the current ones without an average.

        Runs in the precision of the training, and never compiled: full frames come in many sizes.
        """
        # The bare network: a DistributedDataParallel wrapper would wait for ranks that do not validate.
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        with torch.no_grad(), self.acceleration.autocast(self.device):
            output = net(self.lq)
        self.output = at_least_float32(finest(output))
        net.train(was_training)


def losses_of_scales(loss: nn.Module, restored: Sequence[Tensor], sharp: Sequence[Tensor]) -> Sequence[Tensor]:
    """Losses of all scales, at once if the loss has a way to do so.

    Args:
        loss: Any loss of BasicSR's registry, or :class:`~macr_plugin.losses.MACRLoss`.
        restored: Pictures of each scale, (N, 3, H_i, W_i), RGB in [0, 1] or a little outside.
        sharp: What they should be, of the same shapes.

    Returns:
        A scalar for each scale, at least 0.
    """
    if isinstance(loss, MACRLoss):
        return loss.of_scales(restored, sharp).unbind()
    return [loss(*pair) for pair in zip(restored, sharp, strict=True)]
