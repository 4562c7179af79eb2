"""Weights and pictures that another implementation can be given too, from NumPy's frozen legacy generator."""

import numpy as np
import torch


def uniform(seed, shape, low, high):
    """The same float64 numbers in every version of NumPy."""
    return torch.from_numpy(np.random.RandomState(seed).uniform(low, high, shape))


def with_reference_weights(net):
    """Make a network float64 and fill it: tensor k of its state dict is drawn with seed k.

    Biases lie within 0.1, weights within the root of output channels over number of elements.
    """
    net.double().eval()
    weights = {}
    for seed, (name, value) in enumerate(net.state_dict().items()):
        bound = (value.shape[0] / value.numel()) ** 0.5 if value.ndim > 1 else 0.1
        weights[name] = uniform(seed, value.shape, -bound, bound)
    net.load_state_dict(weights)
    return net
