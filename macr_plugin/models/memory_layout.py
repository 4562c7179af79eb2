"""Lays networks out in memory, such that their gradients come in the same layout, and changes many tensors at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


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


def change_at_once(tensors: Sequence[Tensor], change: Callable[[Tensor], object]) -> None:
    """Change many tensors in a few operations, whose number does not grow with theirs.

    Args:
        tensors: At least one, of any shapes, (O, I, H, W) and (O,) for a convolution, any values and one type; they are
            changed. Gradients of weights that :func:`lay_out` has laid out lie in the same order in every process.
        change: Changes all their values in place, which it gets in one dimension.

    Example:
        >>> gradients = [torch.ones(2, 3, 1, 1), torch.ones(2)]
        >>> change_at_once(gradients, lambda values: values.mul_(0.5))
        >>> gradients[1]
        tensor([0.5000, 0.5000])
    """
    # In the order of memory: any other one would copy each tensor by itself, there and back.
    ordered = [tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True)) for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in ordered])
    change(flat)
    parts = flat.split([tensor.numel() for tensor in ordered])
    torch._foreach_copy_(ordered, [part.view_as(tensor) for part, tensor in zip(parts, ordered, strict=True)])
