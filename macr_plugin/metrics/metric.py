"""What the plugin knows of a metric: one record of it serves BasicSR's registry, validation, benchmark and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """How close a restored picture comes to the sharp one, by one definition.

    Attributes:
        name: In results and CSV files, such as ``ssim_3d``.
        heading: For people, such as ``SSIM 3D``.
        digits: Decimal places in tables.
        measure: Compares pictures as :func:`~macr_plugin.metrics.psnr_ssim.psnr` does: takes (N, C, H, W) rounded to
            uint8, what they are compared with, ``crop_border`` and ``test_y_channel``, and gives (N,) on the device.
        measure_unrounded: Compares two pictures (1, C, H, W), float32 RGB in [0, 1], without rounding; gives one value.
        calculate: The same with the signature of BasicSR's metrics, for its ``METRIC_REGISTRY``.
        stock_type: The metric of BasicSR that gives the same values, if there is one.
        unit: Such as ``dB``; empty for a pure number.
        note: What readers of a table have to know, a part of a sentence; may be empty.
    """

    name: str
    heading: str
    digits: int
    measure: Callable[..., Tensor]
    measure_unrounded: Callable[[Tensor, Tensor], Tensor]
    calculate: Callable[..., float]
    stock_type: str | None = None
    unit: str = ""
    note: str = ""

    @property
    def types(self) -> tuple[str, ...]:
        """What ``type`` in ``val.metrics`` may call it."""
        own = self.calculate.__name__
        return (own,) if self.stock_type is None else (own, self.stock_type)

    @property
    def column(self) -> str:
        """Name of its column in CSV files, with the unit."""
        return "_".join(filter(None, (self.name, self.unit.lower())))

    @property
    def heading_with_unit(self) -> str:
        """Head of its column for people."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading
