"""Counts the operations of a pass: what a GPU is told to do, one kernel or copy for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from macr_plugin.inference.optimize import ConvReLU


class _Counter(TorchDispatchMode):
    """Counts every operation that PyTorch dispatches, but for views, which compute nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def count_operations(function: Callable[[], object]) -> int:
    """Count the operations of a function, on any device.

    Args:
        function: Computes something with tensors. A convolution and the ReLU after it, which
            :func:`~macr_plugin.inference.optimize.optimize` makes one kernel on a GPU, count as one on a CPU too.
    """
    forward, counter = ConvReLU.forward, _Counter()

    def counted(pair: ConvReLU, x: Tensor) -> Tensor:
        before = counter.count
        result = forward(pair, x)
        if not x.is_cuda and isinstance(pair.layer, nn.Conv2d):
            counter.count = before + 1
        return result

    with mock.patch.object(ConvReLU, "forward", counted), counter:
        function()
    return counter.count
