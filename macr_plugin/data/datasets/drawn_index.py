"""A sample's number that carries its draw, which random numbers of a training are keyed by."""

from __future__ import annotations

import random

import numpy as np


class DrawnIndex(int):
    """Number of a sample that also tells which draw of the training it is, for keyed random numbers.

    Any dataset may use it as the plain number. It reaches data loading workers unharmed.

    Args:
        index: Number of the sample.
        epoch: Epoch of the draw.
        draw: Number of the draw in its epoch, different for every sample, repetition and rank.
    """

    epoch: int
    draw: int

    def __new__(cls, index: int, epoch: int, draw: int) -> DrawnIndex:
        """Attach the draw to the number."""
        drawn = super().__new__(cls, index)
        drawn.epoch, drawn.draw = epoch, draw
        return drawn

    def __reduce__(self) -> tuple[type[DrawnIndex], tuple[int, int, int]]:
        return DrawnIndex, (int(self), self.epoch, self.draw)


def sample_generator(seed: int, index: int, train: bool) -> np.random.Generator:
    """Make the random generator of one sample.

    Args:
        seed: Seed of the whole dataset.
        index: Number of the sample.
        train: Draw again in every epoch; else a number gives always the same draws.
    """
    if not train:
        return np.random.default_rng([seed, index])
    if isinstance(index, DrawnIndex):
        return np.random.default_rng([seed, index.epoch, index.draw])
    # In a program that hands over no draw, the generator that BasicSR's own datasets draw from.
    return np.random.default_rng(random.getrandbits(64))
