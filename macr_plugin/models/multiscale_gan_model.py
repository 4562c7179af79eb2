"""Model class that adds an adversarial loss to the supervision of every scale."""

from __future__ import annotations

from collections import OrderedDict

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from torch import Tensor, nn

from macr_plugin.errors import InputError
from macr_plugin.metrics.structural_similarity import at_least_float32
from macr_plugin.models.divergence import drop_nonfinite_gradients, finite_statistics
from macr_plugin.models.multiscale_model import MultiScaleDeblurModel


class MultiScaleDeblurGANModel(MultiScaleDeblurModel):
    """Trains a deblurring network on the loss of every scale and against a discriminator of the finest.

    Each iteration updates the network first, then the discriminator, on the sharp pictures and on the pictures that
    were restored before the update. Everything else is as in :class:`MultiScaleDeblurModel`.

    Registered as ``MultiScaleDeblurGANModel`` in BasicSR's ``MODEL_REGISTRY``. On top of that class's options it reads
    those of BasicSR's ``SRGANModel``:

    * ``network_d``: the discriminator, with one or many logits a picture.
    * ``train.gan_opt``: the adversarial loss, e.g. ``GANLoss``; its ``loss_weight`` counts for the network only.
    * ``train.optim_d``: optimizer of the discriminator. Both optimizers follow ``train.scheduler``.
    * ``train.net_d_iters``: at n, the network is updated in every n-th iteration only, the discriminator in each. By
      default 1.
    * ``train.net_d_init_iters``: as many iterations at first update the discriminator only. By default 0.
    * ``path.pretrain_network_d``, ``path.param_key_d`` and ``path.strict_load_d``: weights to start from.

    Its steps run one operation at a time: ``train.acceleration`` may choose the precision, but for ``fp16``, and the
    memory layout.

    Args:
        opt: BasicSR's options.
    """

    def init_training_settings(self) -> None:
        """Set up the discriminator and its loss, then everything that :class:`MultiScaleDeblurModel` sets up.

        Raises:
            InputError: If ``train.acceleration`` asks for more than these steps can do.
        """
        if self.acceleration.averages_gradients or self.acceleration.precision == "fp16":
            raise InputError(
                "train.acceleration: MultiScaleDeblurGANModel neither compiles nor captures its steps, nor scales its "
                "loss: set compile and cuda_graph to false, and precision to fp32, tf32 or bf16"
            )
        train, path = self.opt["train"], self.opt["path"]
        self.net_d = self.model_to_device(build_network(self.opt["network_d"]))
        self.print_network(self.net_d)
        if path.get("pretrain_network_d"):
            strict, key = path.get("strict_load_d", True), path.get("param_key_d", "params")
            self.load_network(self.net_d, path["pretrain_network_d"], strict, key)
        self.net_d.train()
        self.cri_gan = build_loss(train["gan_opt"]).to(self.device)
        self.net_d_iters: int = train.get("net_d_iters", 1)
        self.net_d_init_iters: int = train.get("net_d_init_iters", 0)
        super().init_training_settings()

    def setup_optimizers(self) -> None:
        """Build the optimizers of the network and, second, of the discriminator."""
        super().setup_optimizers()
        options = dict(self.opt["train"]["optim_d"])
        self.optimizer_d = self.get_optimizer(options.pop("type"), self.net_d.parameters(), **options)
        self.optimizers.append(self.optimizer_d)

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step on the pictures of ``feed_data``.

        Args:
            current_iter: Number of the iteration, counted from 1.
        """
        with finite_statistics(*((self.net_g, self.net_d) if self.watch.skips else ())):
            if current_iter % self.net_d_iters == 0 and current_iter > self.net_d_init_iters:
                losses = self._update_network()
            else:
                losses = OrderedDict()
                with torch.no_grad():
                    _, _, self.output = self.restore_and_compare(self.lq, self.gt)
            losses.update(self._update_discriminator())
        self.losses = {name: loss.detach() for name, loss in losses.items()}
        self.watch_step(current_iter)

    def _update_network(self) -> OrderedDict[str, Tensor]:
        """Update the network on the losses of all scales and the verdict on the finest."""
        self.optimizer_g.zero_grad()
        total, parts, restored = self.restore_and_compare(self.lq, self.gt)
        # The bare discriminator: it gets no gradient here that processes would have to average.
        discriminator = self.get_bare_model(self.net_d)
        discriminator.requires_grad_(False)
        losses = OrderedDict(parts)
        losses["l_g_gan"] = self.cri_gan(self._judge(discriminator, restored), True, is_disc=False)
        (total + losses["l_g_gan"]).backward()
        discriminator.requires_grad_(True)
        if self.watch.skips:
            drop_nonfinite_gradients(self.net_g.parameters())
        if self.grad_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net_g.parameters(), self.grad_clip_norm)
        self.optimizer_g.step()
        self.update_average()
        self.output = restored.detach()
        return losses

    def _update_discriminator(self) -> OrderedDict[str, Tensor]:
        """Update the discriminator on the sharp and the restored pictures, which it must tell apart."""
        self.optimizer_d.zero_grad()
        losses: OrderedDict[str, Tensor] = OrderedDict()
        # One backward pass for each: batch statistics of the second would overwrite what the first one still needs.
        for name, pictures, is_sharp in (("real", self.gt, True), ("fake", self.output, False)):
            logits = self._judge(self.net_d, pictures)
            losses[f"l_d_{name}"] = self.cri_gan(logits, is_sharp, is_disc=True)
            losses[f"out_d_{name}"] = logits.mean()
            losses[f"l_d_{name}"].backward()
        if self.watch.skips:
            drop_nonfinite_gradients(self.net_d.parameters())
        self.optimizer_d.step()
        return losses

    def _judge(self, discriminator: nn.Module, pictures: Tensor) -> Tensor:
        """Logits of a discriminator, in at least float32."""
        with self.acceleration.autocast(self.device):
            logits = discriminator(pictures)
        return at_least_float32(logits)

    def networks_to_save(self) -> dict[str, dict[str, nn.Module]]:
        """The discriminator's file beside the network's."""
        return {"net_d": {"params": self.net_d}, **super().networks_to_save()}
