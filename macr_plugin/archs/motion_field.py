"""Linear motions: the candidates of Sun et al., their blur kernels, and a smooth field of them.

Jian Sun, Wenfei Cao, Zongben Xu, Jean Ponce: "Learning a Convolutional Neural Network for Non-uniform Motion Blur
Removal", CVPR 2015. A motion is a straight line of some length and orientation. Angles are in degrees from the x axis,
which points right, towards the y axis, which points down; a line has no direction, so that they end below 180.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Lengths of the lines in pixels; the shortest is no motion.
LENGTHS = tuple(range(1, 26, 2))
#: Degrees between the orientations that the classifier tells apart.
CLASS_STEP = 30
#: Degrees between the orientations of the candidates, which rotated pictures add.
CANDIDATE_STEP = 6
#: Height and width of every kernel.
KERNEL_SIZE = LENGTHS[-1]
#: Pixels that a blurred pixel sees on each side of its place.
KERNEL_RADIUS = KERNEL_SIZE // 2


@dataclass(frozen=True)
class MotionCandidates:
    """Linear motions in a fixed order: none, then length by length, each with its orientations in ascending order.

    Attributes:
        step: Degrees between two orientations, a divisor of 180. The paper: 30 for the 73 classes of its network, 6 for
            the 361 candidates of its field.
    """

    step: int

    @property
    def orientations(self) -> int:
        """Number of orientations of each length above 1."""
        return 180 // self.step

    def __len__(self) -> int:
        return 1 + (len(LENGTHS) - 1) * self.orientations

    def lengths(self) -> Tensor:
        """Length of each motion in pixels, shape (K,), float64."""
        longer = torch.tensor(LENGTHS[1:], dtype=torch.float64).repeat_interleave(self.orientations)
        return torch.cat([torch.ones(1, dtype=torch.float64), longer])

    def angles(self) -> Tensor:
        """Orientation of each motion in degrees, 0 for no motion, shape (K,), float64."""
        each = torch.arange(0, 180, self.step, dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), each.repeat(len(LENGTHS) - 1)])

    def vectors(self) -> Tensor:
        """Way between the centres of the first and the last pixel of each line, (x, y) in pixels, (K, 2), float64.

        It is one pixel shorter than the line, so that no motion is the null vector whatever its orientation.
        """
        radians = torch.deg2rad(self.angles())
        return (self.lengths() - 1)[:, None] * torch.stack([radians.cos(), radians.sin()], dim=1)

    def areas(self) -> Tensor:
        """Area of the plane of motions that each one stands for, in square pixels, shape (K,), float64."""
        radii = self.lengths() - 1
        ring = radii * (LENGTHS[1] - LENGTHS[0]) * math.pi / self.orientations
        # No motion stands for the half disc within the first ring.
        return torch.where(radii == 0, math.pi / 2, ring)

    def kernels(self) -> Tensor:
        """Blur kernel of each motion, see :func:`line_kernels`, shape (K, 25, 25), float64 in [0, 1]."""
        return line_kernels(self.vectors())

    def index(self, length: int, angle: int) -> int:
        """Place of a motion in the order.

        Args:
            length: One of :data:`LENGTHS`.
            angle: A multiple of ``step``, below 180; ignored for length 1.
        """
        return 0 if length == 1 else 1 + (length // 2 - 1) * self.orientations + angle // self.step


#: What the classifier of the paper tells apart: 73 motions.
CLASSES = MotionCandidates(CLASS_STEP)
#: What a motion field is made of: 361 motions.
CANDIDATES = MotionCandidates(CANDIDATE_STEP)


def line_kernels(vectors: Tensor, size: int = KERNEL_SIZE) -> Tensor:
    """Make the blur kernels of straight motions.

    The weight of a pixel falls linearly with its distance from the line, from 1 on it to 0 one pixel away, and the
    weights of a kernel add up to 1. A horizontal or vertical line of n pixels so has n equal weights.

    Args:
        vectors: Way from one end of the line to the other in pixels, (x, y), shape (K, 2).
        size: Height and width of the kernels, odd.

    Returns:
        Shape (K, size, size), weights in [0, 1], centred and point-symmetric.

    Example:
        >>> line_kernels(torch.tensor([[2.0, 0.0]]), size=3)
        tensor([[[0.0000, 0.0000, 0.0000],
                 [0.3333, 0.3333, 0.3333],
                 [0.0000, 0.0000, 0.0000]]])
    """
    place = torch.arange(size, dtype=vectors.dtype, device=vectors.device) - size // 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    length = vectors.norm(dim=1)[:, None, None]
    angle = torch.atan2(vectors[:, 1], vectors[:, 0])[:, None, None]
    beyond_the_ends = ((x * angle.cos() + y * angle.sin()).abs() - length / 2).clamp(min=0)
    across = y * angle.cos() - x * angle.sin()
    weights = (1 - torch.hypot(across, beyond_the_ends)).clamp(min=0)
    return weights / weights.sum(dim=(1, 2), keepdim=True)


def motion_distance(first: Tensor, second: Tensor) -> Tensor:
    """Tell how far motions are apart, whichever way each of them is walked.

    Args:
        first: Motions (x, y) in pixels, shape (..., 2).
        second: Likewise; the shapes are broadcast.

    Returns:
        The smaller of ``|first - second|`` and ``|first + second|`` in pixels, shape (...).

    Example:
        >>> motion_distance(torch.tensor([3.0, 0.0]), torch.tensor([-3.0, 4.0]))
        tensor(4.)
    """
    return torch.minimum((first - second).norm(dim=-1), (first + second).norm(dim=-1))


def smooth_field(log_probabilities: Tensor, motions: MotionCandidates, weight: float, limit: float) -> Tensor:
    """Choose a motion for every cell of a grid so that neighbours move alike: a Markov random field.

    The energy of a field is the sum over the cells of minus the log-probability of the chosen motion, and over all
    pairs of horizontal or vertical neighbours of ``weight * min(distance, limit)**2``, with the distance of
    :func:`motion_distance`. For each row, the marginal distributions of its cells are computed exactly on the tree that
    the row and all columns form (sum-product messages, as in Bleyer and Gelautz, VISAPP 2008), and each cell takes its
    likeliest motion. Short candidates lie closer together than long ones, so that a sum over motions counts each by its
    area; otherwise short motions would win wherever the picture says nothing.

    Args:
        log_probabilities: Of each motion at each cell, at most 0, shape (K, rows, columns).
        motions: The K motions.
        weight: How much a squared pixel of distance between neighbours counts; 0 leaves each cell its likeliest motion.
        limit: Distance in pixels from which on neighbours count as strangers, so that edges of moving objects stay.

    Returns:
        Index of the chosen motion of each cell, shape (rows, columns), int64.

    Example:
        >>> evidence = torch.zeros(len(CLASSES), 2, 3).log_softmax(0)
        >>> evidence[5] += 9
        >>> smooth_field(evidence, CLASSES, weight=0.5, limit=6)
        tensor([[5, 5, 5],
                [5, 5, 5]])
    """
    vectors = motions.vectors()
    distance = motion_distance(vectors[:, None], vectors[None]).clamp(max=limit)
    affinity = ((-weight * distance.square()).exp() * motions.areas()).to(log_probabilities)
    columns_first = _pass_both_ways(log_probabilities.permute(1, 0, 2), affinity)
    belief = _pass_both_ways(columns_first.permute(2, 1, 0), affinity)
    return belief.argmax(dim=1).T


def _pass_both_ways(evidence: Tensor, affinity: Tensor) -> Tensor:
    """Add the messages along the first dimension, from both ends, to log-probabilities (cells, K, chains)."""
    belief = evidence.clone()
    # The largest is 1, so that no cell loses all its motions to rounding.
    likelihood = (evidence - evidence.amax(dim=1, keepdim=True)).exp()
    for order in (range(len(evidence)), reversed(range(len(evidence)))):
        message = torch.ones_like(evidence[0])
        for cell in order:
            belief[cell] += message.log()
            message = affinity @ (message * likelihood[cell])
            message = message / message.amax(dim=0)
    return belief


def rotation(degrees: float) -> Tensor:
    """Matrix that turns (x, y) by an angle, shape (2, 2), float64 in [-1, 1].

    Example:
        >>> (rotation(90) @ torch.tensor([1.0, 0.0], dtype=torch.float64)).round()
        tensor([0., 1.], dtype=torch.float64)
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
