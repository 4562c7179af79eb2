"""Where the values of an LMDB lie in its ``data.mdb``.

The lmdb package touches every page of a value before it hands it out, even as a buffer: a crop of 256 rows would cost
the whole frame, 2.7 MB from a disk that is read for the first time. Knowing where a value lies, a reader maps the file
itself and touches only the pages that it wants. LMDB keeps a value of more than half a page in one piece.

Read is version 1 of the format, which LMDB 0.9 writes since 2011; its ``mdb.c`` describes it. Pages have one size and a
header of 16 bytes. The first two are meta pages; the one with the higher transaction number counts and names the root
of a tree of branch pages and leaf pages.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from macr_plugin.errors import InputError

DATA_FILE = "data.mdb"
MAGIC_AND_VERSION = (0xBEEFC0DE, 1)
# Magic and version; page size; root of the keys; number of the transaction.
META = struct.Struct("<16x II 16x I 84x Q 8x Q")
# Flags; end of the list of nodes, which follows the header.
PAGE = struct.Struct("<10x HH 2x")
# Low and high half of a number, flags, length of the key, which follows.
NODE = struct.Struct("<HHHH")
PAGE_NUMBER = struct.Struct("<Q")
BRANCH_PAGE, LEAF_PAGE = 1, 2
VALUE_ON_OWN_PAGES = 1
NO_PAGE = 2**64 - 1


class Extent(NamedTuple):
    """Part of a file.

    Attributes:
        start: First byte.
        length: Number of bytes.
    """

    start: int
    length: int


def find_values(path: Path) -> dict[str, Extent]:
    """Find all values of an LMDB.

    Args:
        path: The LMDB folder, which nobody writes to.

    Returns:
        Key -> where in ``data.mdb`` its value lies, in the order of the keys.

    Raises:
        InputError: ``data.mdb`` cannot be opened, is cut short, or is no LMDB of version 1.
    """
    file = path / DATA_FILE
    try:
        with file.open("rb") as data, mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            values = dict(_walk(memory))
            complete = all(value.start + value.length <= len(memory) for value in values.values())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (struct.error, ValueError):
        complete = False
    if not complete:
        raise InputError(f"{file} cannot be read (cut short, or no LMDB of format 1): recreate {path.name}")
    return values


def _walk(memory: mmap.mmap) -> Iterator[tuple[str, Extent]]:
    page_size = META.unpack_from(memory, 0)[2]
    metas = [META.unpack_from(memory, start) for start in (0, page_size)]
    if any(meta[:2] != MAGIC_AND_VERSION for meta in metas):
        raise ValueError("no LMDB of version 1")
    *_, root, _ = max(metas, key=lambda meta: meta[-1])
    if root != NO_PAGE:
        yield from _walk_page(memory, page_size, root)


def _walk_page(memory: mmap.mmap, page_size: int, number: int) -> Iterator[tuple[str, Extent]]:
    page = number * page_size
    kind, end_of_list = PAGE.unpack_from(memory, page)
    nodes = struct.unpack_from(f"<{(end_of_list - PAGE.size) // 2}H", memory, page + PAGE.size)
    for node in nodes:
        low, high, flags, key_length = NODE.unpack_from(memory, page + node)
        key_start = page + node + NODE.size
        value_start = key_start + key_length
        if kind & BRANCH_PAGE:
            yield from _walk_page(memory, page_size, low | high << 16 | flags << 32)
        elif kind & LEAF_PAGE:
            if flags & VALUE_ON_OWN_PAGES:
                value_start = PAGE_NUMBER.unpack_from(memory, value_start)[0] * page_size + PAGE.size
            key = memory[key_start : key_start + key_length].decode("ascii")
            yield key, Extent(value_start, low | high << 16)
        else:
            raise ValueError(f"page {number} is neither branch nor leaf")
