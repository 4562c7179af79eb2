"""The one place where pictures are padded for a network and cropped back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from macr_plugin.errors import InputError


def check_minimum_size(image: Tensor, minimum: int, user: str) -> None:
    """Refuse a picture that is smaller than a network can take.

    Args:
        image: Shape (N, C, H, W), of any value range.
        minimum: Smallest height and width, in pixels.
        user: Who asks, for the message.

    Raises:
        InputError: If the height or the width is below ``minimum``.

    Example:
        >>> check_minimum_size(torch.rand(1, 3, 16, 16), 16, "MACR")
    """
    height, width = image.shape[-2:]
    # A traced or symbolic size is that of the example: who runs the graph gives what sizes it likes.
    if torch.jit.is_tracing() or is_symbolic(image):  # type: ignore[attr-defined, no-untyped-call]
        return
    if min(height, width) < minimum:
        raise InputError(
            f"{user} needs pictures of at least {minimum}x{minimum} px and got {height}x{width} (height x width): "
            "use a larger picture or fewer scales"
        )


def is_symbolic(image: Tensor) -> bool:
    """Whether a graph for every size is being made of the picture's network, as ``torch.export`` does.

    A comparison of such a size with a number would bind the graph to sizes with the same answer.

    Args:
        image: Shape (N, C, H, W), of any value range.

    Example:
        >>> is_symbolic(torch.rand(1, 3, 16, 16))
        False
    """
    return any(isinstance(side, torch.SymInt) for side in image.shape[-2:])


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad at the bottom and on the right until both sides are divisible.

    The border is replicated: unlike reflection that works for a side of any length.

    Args:
        image: Shape (N, C, H, W), of any value range.
        multiple: What height and width must be divisible by.

    Returns:
        Shape (N, C, H', W') with the smallest such H' >= H and W' >= W.

    Example:
        >>> pad_to_multiple(torch.rand(1, 3, 37, 40), 4).shape
        torch.Size([1, 3, 40, 40])
    """
    height, width = image.shape[-2:]
    # Not height + -height % multiple: ONNX rounds the quotient of a negative number towards zero.
    rows, columns = (height + multiple - 1) // multiple, (width + multiple - 1) // multiple
    return pad_to_size(image, (rows * multiple, columns * multiple))


def pad_to_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad at the bottom and on the right up to a size, replicating the border.

    Args:
        image: Shape (N, C, H, W), of any value range.
        size: Height H' >= H and width W' >= W.

    Returns:
        Shape (N, C, H', W'); the very same tensor when it has that size already.

    Example:
        >>> pad_to_size(torch.rand(1, 3, 37, 40), (48, 64)).shape
        torch.Size([1, 3, 48, 64])
    """
    bottom, right = size[0] - image.shape[-2], size[1] - image.shape[-1]
    if not is_symbolic(image) and bottom == 0 and right == 0:
        return image
    return functional.pad(image, (0, right, 0, bottom), mode="replicate")


def crop_to_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo :func:`pad_to_multiple` and :func:`pad_to_size`.

    Args:
        image: Shape (N, C, H', W'), of any value range.
        size: Height H and width W to keep, from the top left corner.

    Returns:
        Shape (N, C, H, W).

    Example:
        >>> crop_to_size(torch.rand(1, 3, 40, 40), (37, 40)).shape
        torch.Size([1, 3, 37, 40])
    """
    return image[..., : size[0], : size[1]]
