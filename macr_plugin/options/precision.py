"""Names of the precisions that networks run in."""

from __future__ import annotations

from typing import Literal, get_args

#: ``tf32`` is float32 whose products an NVIDIA GPU rounds; ``bf16`` and ``fp16`` have half its bits.
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
