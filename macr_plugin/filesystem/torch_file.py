"""Files that torch wrote, such as checkpoints, read without running what somebody may have hidden in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from macr_plugin.errors import InputError


def read_torch_file(path: str | Path, damaged: str) -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain values only, on the CPU.

    Args:
        path: The file.
        damaged: The message where it is none, or is damaged: names the file and what to do.

    Raises:
        InputError: With that message.
        OSError: The file is not there or cannot be read.
    """
    # Here rather than above: what imports this room must not need torch.
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # What a damaged pickle raises depends on where it is damaged.
    except Exception as error:
        raise InputError(damaged) from error
