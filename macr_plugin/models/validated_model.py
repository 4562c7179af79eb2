"""Model class that measures full frames at each validation, and draws how the figures change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from basicsr.utils import get_root_logger
from torch import Tensor

from macr_plugin.errors import InputError
from macr_plugin.metrics.psnr_ssim import to_uint8
from macr_plugin.models.checkpointed_model import CheckpointedModel
from macr_plugin.models.divergence import DivergenceWatch
from macr_plugin.models.validation import Measurement, Validator, share_buffers
from macr_plugin.models.validation_curve import ValidationCurve


class ValidatedModel(CheckpointedModel):
    """Restores and measures every frame of a data set at full size, in place of BasicSR's validation.

    A model class that extends it provides ``feed_data``, ``test`` and, where it trains, :attr:`watch`. On top of
    :class:`~macr_plugin.models.checkpointed_model.CheckpointedModel`'s options it reads:

    * ``val.comparison_frames``: of how many frames a side-by-side picture (blurred, restored, sharp) is saved at each
      validation, evenly spaced; by default none.
    * ``datasets.val.num_worker_per_gpu``: processes that read the frames of a validation ahead; by default 4 on a GPU
      and none on a CPU.

    Attributes:
        watch: Ends a training whose losses are not finite, before it is validated.
    """

    watch: DivergenceWatch

    def init_training_settings(self) -> None:
        """Begin the curves of the validations."""
        self.validation_curves: dict[str, ValidationCurve] = {}
        self.training_began = time.monotonic()
        super().init_training_settings()

    @cached_property
    def validator(self) -> Validator:
        """What restores and measures the frames of a validation."""
        return Validator(self.opt, self._restore_frame, self.device)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Measure the restored frames, and the blurred ones beside them, over a whole data set.

        With ``save_img`` the pictures go to ``visualization/<scene>/<frame>/<frame>_<iteration>.png`` in training and
        ``visualization/<dataset>/<scene>/<frame>_<suffix>.png`` in a test.

        Args:
            dataloader: Names the data set.
            current_iter: Iteration, or the name of the test run. The validation that BasicSR calls after training is
                skipped if the last iteration has been validated already.
            tb_logger: TensorBoard writer or None.
            save_img: Whether to save every restored picture.

        Raises:
            InputError: If a picture or a checkpoint cannot be written, or a metric cannot measure a frame.
        """
        dataset_name = dataloader.dataset.opt["name"]
        if self.is_train:
            # BasicSR validates once more when training has ended and counts one iteration too many then.
            ended = current_iter > self.opt["train"]["total_iter"]
            current_iter = min(int(current_iter), int(self.opt["train"]["total_iter"]))
            if ended and self.last_validation.get(dataset_name) == current_iter:
                return
            self.watch.check(get_root_logger().warning)
        measured = self.validator.run(dataloader, current_iter, save_img)
        if measured and measured[0].restored:
            self.metric_results = mean_values([frame.restored for frame in measured])
            if self.opt["rank"] == 0:
                self._log_metrics(measured, dataset_name, current_iter, tb_logger)
                if self.is_train:
                    self._extend_curve(measured, dataset_name, current_iter)
        if self.is_train:
            self.save_after_validation(dataset_name, current_iter)

    def dist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validate in all processes, each its share of the frames; BasicSR lets the first one work alone.

        Args:
            dataloader: As for :meth:`nondist_validation`, like the other arguments.
            current_iter: Iteration, or the name of the test run.
            tb_logger: TensorBoard writer or None.
            save_img: Whether to save every restored picture.
        """
        share_buffers(self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g))
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def _restore_frame(self, data: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Blurred, restored and, where there is one, sharp picture, rounded to uint8 on the device."""
        self.feed_data(data)
        self.test()
        if not self.output.isfinite().all():
            raise InputError(f"{' '.join(self.keys) or 'a frame'}: the network restores pixels that are not finite")
        sharp = to_uint8(self.gt) if "gt" in data else None
        versions = to_uint8(self.lq), to_uint8(self.output), sharp
        # A full frame is large: it must not stay in memory while training goes on.
        for name in ("lq", "output", "gt"):
            self.__dict__.pop(name, None)
        return versions

    def _log_metrics(
        self, measured: Sequence[Measurement], dataset_name: str, current_iter: int | str, tb_logger: Any
    ) -> None:
        """Log the means over the frames, those of the blurred input beside them, and the best so far."""
        self._initialize_best_metric_results(dataset_name)
        blurred_means = mean_values([frame.blurred for frame in measured])
        lines = [f"Validation {dataset_name}, {len(measured)} frames"]
        for name, value in self.metric_results.items():
            best = self.best_metric_results[dataset_name][name]
            improved = is_better(value, best)
            self._update_best_metric_result(dataset_name, name, value, current_iter)
            if improved and self._keeps_best(dataset_name, name):
                self._save_best(dataset_name, name)
            gain = (value - blurred_means[name]) * (1 if best["better"] == "higher" else -1)
            line = f"\t # {name}: {value:.4f}\tblurred input: {blurred_means[name]:.4f}\tgain: {gain:+.4f}"
            lines.append(f"{line}\tBest: {best['val']:.4f} @ {best['iter']} iter" if self.is_train else line)
            if tb_logger:
                tb_logger.add_scalar(f"metrics/{dataset_name}/{name}", value, current_iter)
        get_root_logger().info("\n".join(lines))

    def _extend_curve(self, measured: Sequence[Measurement], dataset_name: str, iteration: int) -> None:
        """Draw the validations so far; a training goes on without the picture."""
        if dataset_name not in self.validation_curves:
            folder = Path(self.opt["path"]["visualization"])
            first_metric = next(iter(self.opt["val"]["metrics"].values()))
            self.validation_curves[dataset_name] = ValidationCurve(
                folder, dataset_name, self.training_began, first_metric.get("better") == "lower"
            )
        try:
            blurred = mean_values([frame.blurred for frame in measured])
            self.validation_curves[dataset_name].add(iteration, self.metric_results, blurred)
        except InputError as error:
            get_root_logger().warning(f"no validation curve: {error}")


def mean_values(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average the figures of frames, name by name."""
    return {name: fmean(figures[name] for figures in values) for name in values[0]}


def is_better(value: float, best: Mapping[str, Any]) -> bool:
    """Whether a figure beats BasicSR's record of the best one, ``val`` and ``better``."""
    return value > best["val"] if best["better"] == "higher" else value < best["val"]
