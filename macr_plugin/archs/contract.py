"""What a network for deblurring promises to whoever runs it."""

from __future__ import annotations

import inspect
from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class DeblurringNetwork(Protocol):
    """Maps blurred pictures to restored ones of the same size.

    Networks of others may promise less: :func:`minimum_size_of` and :func:`returns_pyramid` tell what is known of one.
    """

    @property
    def minimum_size(self) -> int:
        """Smallest height and width that it takes, in pixels; it refuses smaller pictures with an ``InputError``."""

    @property
    def multiple_of(self) -> int:
        """What it pads height and width to a multiple of, on its own; it crops the result back."""

    def __call__(self, x: Tensor) -> Tensor:
        """Restore blurred pictures.

        Args:
            x: Shape (N, 3, H, W), RGB in [0, 1]; any H and W from :attr:`minimum_size` up.

        Returns:
            Shape (N, 3, H, W), RGB, not clipped to [0, 1].
        """


@runtime_checkable
class PyramidNetwork(Protocol):
    """A :class:`DeblurringNetwork` that restores coarse scales on its way and can return them."""

    @property
    def num_scales(self) -> int:
        """How many scales it has."""

    def __call__(self, x: Tensor, all_scales: bool = False) -> Tensor | list[Tensor]:
        """Restore blurred pictures.

        Args:
            x: Shape (N, 3, H, W), RGB in [0, 1].
            all_scales: Return all scales, for a loss of each.

        Returns:
            Shape (N, 3, H, W), or with ``all_scales`` the list of ``num_scales`` such pictures, finest first, each
            about half as large as the one before.
        """


def minimum_size_of(network: DeblurringNetwork | nn.Module) -> int | None:
    """Smallest height and width that a network takes, in pixels; None if it does not say.

    Args:
        network: A network of any kind.
    """
    return getattr(network, "minimum_size", None)


def returns_pyramid(network: nn.Module) -> TypeGuard[PyramidNetwork]:
    """Whether a network takes ``all_scales``.

    Args:
        network: A network of any kind, without a wrapper for data parallel training.
    """
    return "all_scales" in inspect.signature(network.forward).parameters
