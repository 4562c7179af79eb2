"""Training samples that cannot be read: the training stops, or takes another sample in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.errors import InputError

#: Key of a sample under which stands what could not be read instead of it, or nothing.
SKIPPED = "skipped"

Sample = dict[str, Any]


def read_or_replace(opt: Mapping[str, Any], index: int, length: int, read: Callable[[int], Sample]) -> Sample:
    """Read a sample, and with ``on_bad_sample: skip`` in a training the next one that can be read instead.

    Which one that is depends on the number alone, so that a resume and other numbers of workers see the same; the
    order of all other samples stays.

    Args:
        opt: Options of the dataset.
        index: Number of the sample.
        length: How many the dataset has.
        read: Reads one.

    Returns:
        The sample, with ``skip`` also :data:`SKIPPED`: why another one stands in its place, or an empty text.

    Raises:
        InputError: The sample cannot be read, or with ``skip`` none of them.
    """
    if opt["phase"] != "train" or opt.get("on_bad_sample", "stop") != "skip":
        return read(index)
    first = ""
    for distance in range(length):
        try:
            return {**read(_moved(index, distance, length)), SKIPPED: first}
        except InputError as error:
            first = first or str(error)
    raise InputError(f"datasets.train: none of its {length} samples can be read, the first because {first}")


def _moved(index: int, distance: int, length: int) -> int:
    """The number of a later sample, with the draw of this one."""
    moved = (int(index) + distance) % length
    return DrawnIndex(moved, index.epoch, index.draw) if isinstance(index, DrawnIndex) else moved
