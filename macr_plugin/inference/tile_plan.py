"""Chooses tiles for a network and a device: how far a pixel sees, and how much memory a pixel takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from macr_plugin.archs.tiling import Tile
from macr_plugin.inference.memory import free_memory

#: Largest difference, of values in [0, 1], that a pixel beyond the receptive field may make.
TOLERANCE = 1e-5
#: Sides of the probe in pixels, short and long, and the place of its cut.
PROBE = (128, 768)
CUT = 384
#: Of the free memory, for a tile. The rest is for the picture itself and for what libraries set aside.
MEMORY_SHARE = 0.5
#: Libraries change the layout of tensors and need room to work.
WORKSPACE = 1.5
LARGEST_TILE = 2048
SMALLEST_TILE = 64

Restore = Callable[[Tensor], Tensor]


def plan_tiles(size: int, radius: int, step: int) -> Tile:
    """Lay out tiles of a size so that they give what the whole picture would.

    Args:
        size: Wished height and width in pixels; rounded down to a multiple of ``step``.
        radius: How far a pixel sees (:func:`receptive_radius`).
        step: What the starts of the tiles must be multiples of.

    Returns:
        The tiles. Where they are too small for margins of ``radius``, the margins are a quarter of the size: the
        result then differs from that of the whole picture.
    """
    size = max(step, size // step * step)
    margin = min(-(-radius // step) * step, size // 4 // step * step)
    # A ramp of one step hides what remains.
    overlap = min(2 * margin + step, size - step)
    return Tile(size, overlap, margin)


@torch.no_grad()
def receptive_radius(restore: Restore, device: torch.device) -> int:
    """Measure how far from the edge of a tile its pixels differ from those of the whole picture.

    A picture of noise at several scales is cut in two, along and across. In theory a multi-scale network sees thousands
    of pixels far (a MACR of 8 ACRBs: some 2,800 to each side); what trained weights make of it is a few dozen.

    Args:
        restore: The network, (1, 3, H, W) in [0, 1] to the same shape.
        device: Where it runs.

    Returns:
        Pixels beyond which no value differs by more than 1e-5; half the probe, 384, if there is no such place, as with
        networks that pool globally.
    """
    radius = 0
    for turned in (False, True):
        probe = _noise(*PROBE).to(device)
        probe = probe.mT if turned else probe
        axis = -2 if turned else -1
        restored = restore(probe.contiguous())
        for start, end in ((CUT, PROBE[1]), (0, CUT)):
            whole = restored.narrow(axis, start, end - start)
            difference = (restore(probe.narrow(axis, start, end - start).contiguous()) - whole).abs()
            along = difference.amax(dim=(0, 1, -1 if turned else -2))
            from_cut = along if start else along.flip(0)
            beyond = torch.nonzero(from_cut > TOLERANCE)
            radius = max(radius, int(beyond[-1]) + 1 if len(beyond) else 0)
    return radius


def _noise(height: int, width: int) -> Tensor:
    """Noise at several scales: the same picture every time."""
    generator = torch.Generator().manual_seed(0)
    layers = [
        torch.rand(1, 3, height // cell, width // cell, generator=generator)
        .repeat_interleave(cell, -1)
        .repeat_interleave(cell, -2)
        for cell in (1, 4, 16, 64)
    ]
    return torch.stack(layers).mean(dim=0)


@torch.no_grad()
def bytes_per_pixel(restore: Restore, device: torch.device, side: int = 128) -> float:
    """Measure the memory that a network takes at its peak for each pixel of a tile.

    Args:
        restore: The network, (1, 3, H, W) in [0, 1] to the same shape.
        device: Where it runs.
        side: Side of the tile that is tried.
    """
    with _LiveTensors() as live:
        restore(torch.zeros(1, 3, side, side, device=device))
    return WORKSPACE * live.peak / side**2


class _LiveTensors(TorchDispatchMode):
    """Adds up the memory of the tensors that operations make, as long as each is alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.peak = 0
        self._size = 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            # Sparse tensors have no storage of their own: it is that of their parts.
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                self._watch(tensor)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._users:
            self._users[key] = 0
            self._size += size
            self.peak = max(self.peak, self._size)
        self._users[key] += 1
        weakref.finalize(tensor, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._size -= size


def largest_side(memory_per_pixel: float, device: torch.device) -> int:
    """Side of the largest square tile that the free memory of a device allows.

    Args:
        memory_per_pixel: In bytes (:func:`bytes_per_pixel`).
        device: Where the network runs.
    """
    side = int((MEMORY_SHARE * free_memory(device) / memory_per_pixel) ** 0.5)
    return max(SMALLEST_TILE, side)
