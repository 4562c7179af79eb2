"""What networks return: one picture or a pyramid of them, and a trial run that refuses all else before a training."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from macr_plugin.archs.contract import returns_pyramid
from macr_plugin.errors import InputError
from macr_plugin.models.checkpoints import random_states, restore_random_states

TRIAL_SIZE = 64


def restore_pyramid(net: nn.Module, bare_net: nn.Module, blurred: Tensor) -> list[Tensor]:
    """Restore a batch at every scale that a network offers.

    Args:
        net: The network, perhaps wrapped for data parallel training.
        bare_net: The same network without its wrapper.
        blurred: Shape (N, 3, H, W), RGB in [0, 1].

    Returns:
        Restored pictures, finest first; one only if the network has no scales.
    """
    output = _output_of_all_scales(net, bare_net, blurred)
    return [output] if isinstance(output, Tensor) else finest_first(output)


def finest_first(pyramid: Iterable[Tensor]) -> list[Tensor]:
    """Sort the pictures of a pyramid by size, largest first: networks differ in the order they return.

    Args:
        pyramid: Shapes (N, C, H_i, W_i), of any value range.

    Example:
        >>> [picture.shape[-1] for picture in finest_first([torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8)])]
        [8, 4]
    """
    return sorted(pyramid, key=lambda picture: picture.shape[-2] * picture.shape[-1], reverse=True)


def finest(output: Tensor | Iterable[Tensor]) -> Tensor:
    """The picture of full size in what a network returns, be it that alone or a pyramid.

    Args:
        output: Shape (N, C, H, W), or such shapes of several sizes; of any value range.

    Example:
        >>> finest([torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8)]).shape
        torch.Size([1, 3, 8, 8])
    """
    return output if isinstance(output, Tensor) else finest_first(output)[0]


def count_scales(
    net: nn.Module, name: str, training: bool, device: torch.device, crop_size: int | None = None
) -> int | None:
    """Run a copy of a network once on a small picture and see that it returns pictures.

    Neither the network nor the random numbers of a training notice.

    Args:
        net: The network without a wrapper.
        name: Its type, for messages.
        training: Whether it will run in training mode, in which some networks return more.
        device: Where it is.
        crop_size: Height and width to try where the network does not take a small picture.

    Returns:
        How many scales it returns; None if it takes neither size, so that nothing is known yet.

    Raises:
        InputError: If it returns anything but a picture of the size that it was given, or a pyramid of pictures whose
            finest has that size.
    """
    for size in (TRIAL_SIZE, crop_size or TRIAL_SIZE):
        picture = torch.full((1, 3, size, size), 0.5, device=device)
        states = random_states()
        try:
            with torch.no_grad():
                trial = copy.deepcopy(net).train(training)
                output = _output_of_all_scales(trial, trial, picture)
        # A network may want another size, or other pictures; its first step says so, with its own words.
        except Exception:  # noqa: S112  see above
            continue
        finally:
            restore_random_states(states)
        pictures = [output] if isinstance(output, Tensor) else output
        if not _is_pyramid(pictures, picture):
            raise InputError(
                f"network_g {name} returns {_describe(output)} for a picture of shape {tuple(picture.shape)}: it has "
                "to return one of that shape, or a list of pictures of 3 channels, the finest of that shape"
            )
        return len(pictures)
    return None


def _output_of_all_scales(net: nn.Module, bare_net: nn.Module, blurred: Tensor) -> Any:
    return net(blurred, all_scales=True) if returns_pyramid(bare_net) else net(blurred)


def _is_pyramid(pictures: Any, picture: Tensor) -> bool:
    """Whether these are pictures of three channels, the finest as large as the given one."""
    if not isinstance(pictures, Sequence) or not pictures:
        return False
    if not all(isinstance(one, Tensor) and one.ndim == 4 and one.shape[:2] == picture.shape[:2] for one in pictures):
        return False
    return finest_first(pictures)[0].shape == picture.shape


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dictionary of {', '.join(map(str, output))}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"a {type(output).__name__} of {', '.join(_describe(one) for one in output) or 'nothing'}"
    return f"an object of type {type(output).__name__}"
