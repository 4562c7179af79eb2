"""What a model saves and goes on from: weights, training state, the best so far."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from macr_plugin.basicsr_compat.program import is_training_program
from macr_plugin.basicsr_compat.saving import basic_state, by_key, network_file, restore_progress, state_file
from macr_plugin.models.checkpoints import (
    BEST_KEY,
    CheckpointWriter,
    random_states,
    read_best,
    refuse_nonfinite_weights,
    remove_older,
    remove_unfinished,
    restore_random_states,
)
from macr_plugin.models.divergence import DivergenceWatch
from macr_plugin.models.training_step import TrainingStep, keep_switches
from macr_plugin.weights.checkpoint import NETWORK_KEY, plain_options
from macr_plugin.weights.pretrained import load_pretrained


class CheckpointedModel(SRModel):
    """An ``SRModel`` whose checkpoints are whole, finite, and enough to go on bit for bit.

    In a training program they are written in a thread, one after the other, while the training goes on: a kill
    meanwhile loses the steps since the checkpoint before. On top of ``SRModel``'s options it reads:

    * ``logger.keep_last``: how many checkpoints to keep beside the latest and the best; by default all.
    * ``val.keep_best``: name of the metric in ``val.metrics`` by which the best weights are kept as ``net_g_best.pth``,
      measured on the first validation set, also across a resume; by default none are. ``better: lower`` in the metric's
      options turns the order round.
    * ``path.pretrain_network_g``: a file of BasicSR or of another project, ``.pth`` or ``.safetensors``, or the name of
      shipped weights, such as ``macr-small``.

    Attributes:
        watch: Tells whether the losses are finite.
        training_step: Has the loss scale.
    """

    watch: DivergenceWatch
    training_step: TrainingStep

    def init_training_settings(self) -> None:
        """Set up what :class:`SRModel` does, and remove what a killed process left of files that it was writing."""
        self.writer = CheckpointWriter(in_background=is_training_program())
        self.last_validation: dict[str, int] = {}
        self.postponed_save: tuple[int, int] | None = None
        # The order of the samples stays that of the number of processes with which the training began.
        self.order_of_processes = self.opt["world_size"]
        if self.opt["rank"] == 0:
            for folder in {"models", "training_states"} & self.opt["path"].keys():
                remove_unfinished(Path(self.opt["path"][folder]))
        super().init_training_settings()

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the learning rate of a step, unless a checkpoint could not be written.

        Args:
            current_iter: Number of the step.
            warmup_iter: Steps until the full rate.

        Raises:
            InputError: Naming the file that could not be written.
        """
        self.writer.check()
        super().update_learning_rate(current_iter, warmup_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Go on from a training state, whatever acceleration saved it.

        Args:
            resume_state: What :meth:`save_training_state` saved.
        """
        with keep_switches(self.optimizers):
            super().resume_training(resume_state)
        if resume_state.get("loss_scale"):
            self.training_step.scaler.load_state_dict(resume_state["loss_scale"])
        restore_progress(self, resume_state, restore_random_states)

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Start the record of a data set; BasicSR forgets at a resume what was best before it."""
        if dataset_name in getattr(self, "best_metric_results", {}):
            return
        super()._initialize_best_metric_results(dataset_name)
        for name, best in self.best_metric_results[dataset_name].items():
            if self._keeps_best(dataset_name, name):
                best.update(read_best(self._best_path, dataset_name, name))

    def _keeps_best(self, dataset_name: str, metric: str) -> bool:
        """Whether the best weights by this metric on this data set are kept: the first validation set decides."""
        if not self.is_train or metric != self.opt["val"].get("keep_best"):
            return False
        return dataset_name == self._validation_sets()[0]

    @property
    def _best_path(self) -> Path:
        return Path(self.opt["path"]["models"], "net_g_best.pth")

    def _save_best(self, dataset_name: str, metric: str) -> None:
        """Save the validated weights as ``net_g_best.pth``, with what they achieved in the same file."""
        best = self.best_metric_results[dataset_name][metric]
        record = {"dataset": dataset_name, "metric": metric, "val": best["val"], "iter": best["iter"]}
        weights = self._content("net_g", self.networks_to_save()["net_g"])
        self.writer.save({**weights, BEST_KEY: record}, self._best_path)

    def networks_to_save(self) -> dict[str, dict[str, nn.Module]]:
        """Start of each file's name, and the networks in it by their keys."""
        networks = {"params": self.net_g}
        if hasattr(self, "net_g_ema"):
            networks["params_ema"] = self.net_g_ema
        return {"net_g": networks}

    def _content(self, label: str, networks: dict[str, nn.Module]) -> dict[str, Any]:
        """What a file of weights holds."""
        content: dict[str, Any] = {key: self.get_bare_model(net).state_dict() for key, net in networks.items()}
        return {**content, NETWORK_KEY: plain_options(self.opt["network_g"])} if label == "net_g" else content

    def save(self, epoch: int, current_iter: int) -> None:
        """Save networks and training state; where a validation is still due at this iteration, after it.

        So a resume from this iteration need not make up for the validation, nor lose what it finds to be best.

        Args:
            epoch: Current epoch.
            current_iter: Iteration; -1 stands for the end of the training, which waits until all is written.

        Raises:
            InputError: If a file cannot be written, or the weights are not finite.
        """
        if current_iter > 0 and self._validation_is_due(current_iter):
            self.postponed_save = epoch, current_iter
            return
        self._save_now(epoch, current_iter)
        if current_iter == -1:
            self.finish_saving()

    def _validation_is_due(self, current_iter: int) -> bool:
        sets = self._validation_sets()
        if not sets or current_iter % (self.opt.get("val") or {}).get("val_freq", math.inf):
            return False
        return self.last_validation.get(sets[-1]) != current_iter

    def save_after_validation(self, dataset_name: str, current_iter: int) -> None:
        """Save what :meth:`save` postponed, if all sets have been validated.

        Args:
            dataset_name: The set that was validated.
            current_iter: Iteration; the last one waits until all is written.

        Raises:
            InputError: If a file cannot be written, or the weights are not finite.
        """
        self.last_validation[dataset_name] = current_iter
        if self.postponed_save and dataset_name == self._validation_sets()[-1]:
            self._save_now(*self.postponed_save)
            self.postponed_save = None
        if current_iter >= self.opt["train"]["total_iter"]:
            self.finish_saving()

    def finish_saving(self) -> None:
        """Wait until all that was saved is on disk.

        Raises:
            InputError: If a file could not be written.
        """
        self.writer.finish()

    def _save_now(self, epoch: int, current_iter: int) -> None:
        # One checkpoint at a time: its copy takes memory, and the disk may be slower than the training.
        self.writer.finish()
        self.watch.check(get_root_logger().warning)
        files = self.networks_to_save()
        nets = [self.get_bare_model(net) for networks in files.values() for net in networks.values()]
        refuse_nonfinite_weights(nets, f"checkpoint of step {current_iter}" if current_iter > 0 else "last checkpoint")
        self.random_states: list[Any] = [random_states()]
        if self.opt["dist"]:
            self.random_states *= self.opt["world_size"]
            torch.distributed.all_gather_object(self.random_states, random_states())
        for label, networks in files.items():
            self.save_network(list(networks.values()), label, current_iter, list(networks))
        # Last: a resume takes it as a sign that the networks of its iteration are there.
        self.save_training_state(epoch, current_iter)
        keep = self.opt.get("logger", {}).get("keep_last")
        if self.opt["rank"] == 0 and keep:
            models, states = (Path(self.opt["path"][name]) for name in ("models", "training_states"))
            self.writer.do(lambda: remove_older(models, states, keep))

    def _validation_sets(self) -> list[str]:
        """Names of the validation sets, in the order in which they are validated."""
        datasets = self.opt.get("datasets", {}).items()
        return [options["name"] for phase, options in datasets if phase.startswith("val")]

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights from any file that :func:`~macr_plugin.weights.checkpoint.read_checkpoint` takes.

        Args:
            net: Gets the weights.
            load_path: The file, or the name of shipped weights.
            strict: Whether every weight must fit.
            param_key: Which weights of the file.

        Raises:
            InputError: If the file cannot be read or does not fit.
        """
        load_pretrained(self, net, load_path, strict, param_key)

    @master_only
    def save_network(
        self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int, param_key: str | list[str] = "params"
    ) -> None:
        """Save weights as ``<net_label>_<iteration>.pth``, in the background, atomically.

        Args:
            net: Network, or several that share a file.
            net_label: Start of the file's name.
            current_iter: Iteration; -1 stands for ``latest``.
            param_key: Key of each network's weights in the file.
        """
        content = self._content(net_label, by_key(net, param_key))
        self.writer.save(content, network_file(self.opt, net_label, current_iter))

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save what a resume needs beside the weights as ``<iteration>.state``, in the background.

        Args:
            epoch: Current epoch.
            current_iter: Iteration; nothing is saved for -1, the end of the training.
        """
        if current_iter == -1:
            return
        state = {
            **basic_state(self, epoch, current_iter),
            "loss_scale": self.training_step.scaler.state_dict(),
            "order_of_processes": self.order_of_processes,
            "random": self.random_states,
            "best": getattr(self, "best_metric_results", {}),
        }
        self.writer.save(state, state_file(self.opt, current_iter))
