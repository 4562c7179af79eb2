"""Counts what a network costs, without computing anything."""

import torch
from torch.utils.flop_counter import FlopCounterMode


def cost_of(build, shape=(1, 3, 256, 256)):
    """Count parameters, and multiply-accumulates of the convolutions on one input.

    Args:
        build: Makes the network.
        shape: Of the input.
    """
    with torch.device("meta"):
        net, x = build(), torch.rand(shape)
    with FlopCounterMode(display=False) as counter:
        net(x)
    return sum(parameter.numel() for parameter in net.parameters()), counter.get_total_flops() // 2
