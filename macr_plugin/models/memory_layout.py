"""Lays networks out in memory, such that their gradients come in the same layout."""

from __future__ import annotations

import torch
from torch import nn


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Lay the weights of a network out in memory.

    Args:
        network: Any network; it is changed.
        memory_format: ``channels_last``, ``contiguous_format``, or ``preserve_format`` for as they are.

    Returns:
        The network.
    """
    network.to(memory_format=memory_format)
    if memory_format is torch.channels_last:
        for weight in network.parameters():
            if weight.ndim == 4 and weight.shape[-2:] == (1, 1):
                # Any strides of sides of 1 pass for channels last, and ``to`` leaves them alone; those of the gradient
                # are the full ones, and DistributedDataParallel copies gradients whose strides differ.
                channels = weight.shape[1]
                weight.data = weight.data.as_strided(weight.shape, (channels, 1, channels, channels))
    return network
