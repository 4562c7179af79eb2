"""Records the GPU's work in CUDA graphs, and leaves nothing behind where that fails."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

#: What torch says, as a warning or an error, when the host waits for the GPU.
_WAITED = "called a synchronizing CUDA operation"


class SideStream:
    """A stream on which a function runs before it is captured, as PyTorch demands, and on which it is captured.

    The very same stream each time: cuDNN and cuBLAS keep workspaces for every stream that they were called on.

    Args:
        device: Where the stream is; on a CPU the body just runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Run the body on the stream, after all that was queued before, and let all that follows wait for it."""
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)


@contextlib.contextmanager
def notice_waiting(device: torch.device) -> Iterator[list[str]]:
    """Notice where the body waits for the GPU, which no capture survives.

    It goes on after each wait: an error during an update would leave half of the weights updated.

    Args:
        device: Where the body computes.

    Yields:
        The file and line of each wait, complete once the body has ended; always empty on a CPU.
    """
    places: list[str] = []
    if device.type != "cuda":
        yield places
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield places
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    for warning in caught:
        if _WAITED in str(warning.message):
            places.append(f"{warning.filename}:{warning.lineno}")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def capture(function: Callable[[], Any], side: SideStream) -> tuple[Any, Callable[[], None]]:
    """Record the GPU's work of a function in a CUDA graph.

    Args:
        function: Queues work without waiting for any of it. It is called once, and its work is not carried out.
        side: Where the function ran before.

    Returns:
        What the function returned, and a function that carries the work out, in the same memory every time.

    Raises:
        RuntimeError: If the work cannot be recorded; stream, allocator and random numbers are as they were before.
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    current = torch.cuda.current_stream(side.device)
    try:
        # Thread-local: the thread that pins batches in memory calls CUDA functions that a global capture forbids.
        with torch.cuda.graph(graph, pool=pool, stream=side.stream, capture_error_mode="thread_local"):
            output = function()
    except BaseException:
        _leave_capture(current, pool)
        raise
    return output, graph.replay


def _leave_capture(stream: torch.cuda.Stream, pool: Any) -> None:
    """Undo what ``torch.cuda.graph`` leaves where the end of a capture fails.

    The capturing stream stays current then; the allocator goes on as if a capture were under way, and frees no memory
    that another stream has used; and the generator of random numbers refuses to work outside of a capture.
    """
    torch.cuda.set_stream(stream)
    # An error if the pool was closed after all, and then the graph lets go of it by itself.
    with contextlib.suppress(RuntimeError):
        _end_allocating_to(stream.device_index, pool)
        torch._C._cuda_releasePool(stream.device_index, pool)
    generator = torch.cuda.default_generators[stream.device_index]
    generator.graphsafe_set_state(generator.clone_state())


def _end_allocating_to(device_index: int, pool: Any) -> None:
    # Its name up to torch 2.6 or so.
    earlier = getattr(torch._C, "_cuda_endAllocateCurrentStreamToPool", None)
    (earlier or torch._C._cuda_endAllocateToPool)(device_index, pool)
