"""The metrics of the plugin: a new one is a module with its :class:`Metric` and a line here."""

from __future__ import annotations

from macr_plugin.metrics.metric import Metric
from macr_plugin.metrics.psnr_ssim import PSNR, SSIM, SSIM_3D

#: In the order of tables. Charts, differences and the recommendation of a benchmark are of PSNR.
METRICS: tuple[Metric, ...] = (PSNR, SSIM, SSIM_3D)


def find_metric(metric_type: str) -> Metric | None:
    """Find a metric by its ``type`` in ``val.metrics``.

    Args:
        metric_type: Such as ``calculate_ssim``: the plugin's own name or BasicSR's.

    Returns:
        The metric, or None if only BasicSR's registry may know it.
    """
    return next((metric for metric in METRICS if metric_type in metric.types), None)
