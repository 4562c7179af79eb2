"""Memory of the device that a network runs on: what is free, keeping it, giving it back, and whether it is used up."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import psutil
import torch

#: Limit and use of a container's memory, in the two versions of Linux's control groups.
CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
#: Larger blocks go back to the system when they are freed: above this, a float32 feature map of 64 channels of a 720p
#: frame, and above a share of the free memory.
LARGEST_KEPT = 256 * 2**20
_KEPT_SHARE = 64
# Options of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def free_memory(device: torch.device) -> int:
    """Memory in bytes that is free on a device; of the main memory no more than the container may have."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch has set aside and does not use is free for us as well.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = psutil.virtual_memory().available
    for limit, used in CGROUP_FILES:
        if Path(limit).is_file() and Path(limit).read_text().strip().isdigit():
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, free)


def keep_freed_memory() -> bool:
    """Let the C library keep the main memory that this process frees, for what it allocates next.

    Otherwise the large tensors of a frame go back to the system one by one, which hands out fresh pages, filled with
    zeros, for those of the next: a quarter of the time of a network on a CPU, and half of some. The process holds its
    peak until it ends, or until :func:`release_memory`. It is for programs of our own: a library does not choose for
    its process.

    A block that is kept is used again for smaller ones alone, so that the peak grows, and the more the larger the
    blocks: where all were kept, that of Uformer doubled to 23 GiB. Hence :data:`LARGEST_KEPT`.

    Returns:
        Whether the C library can be told (glibc: Linux, but for a few distributions such as Alpine).
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return False
    largest = min(LARGEST_KEPT, free_memory(torch.device("cpu")) // _KEPT_SHARE)
    return bool(library.mallopt(_MMAP_THRESHOLD, largest) and library.mallopt(_TRIM_THRESHOLD, -1))


def release_memory(device: torch.device) -> None:
    """Give back to the system what a failed attempt has left, so that a smaller one finds it.

    The C library keeps the main memory that a program has freed; with two threads it kept so much that no tile fitted
    any more.

    Args:
        device: Where the network runs.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a GPU or in main memory."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    # How oneDNN, which computes convolutions on a CPU, says that it got no memory for its own buffers.
    onednn = "could not create a primitive"
    messages = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED", onednn)
    return isinstance(error, RuntimeError) and any(message in str(error) for message in messages)
