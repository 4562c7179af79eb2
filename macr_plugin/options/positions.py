"""Where the keys of a YAML file stand, and which stand there twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from macr_plugin.options.problems import Place, Problem


class Position(NamedTuple):
    """Line and column, both counted from 1."""

    line: int
    column: int


class Positions:
    """The places of all keys of a YAML file.

    Args:
        path: The file, which :func:`~macr_plugin.options.file.read_yaml` has read.
    """

    def __init__(self, path: Path) -> None:
        self.repeated: list[tuple[Position, Problem]] = []
        self._positions: dict[Place, Position] = {(): Position(1, 1)}
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if node is not None:
            self._visit(node, ())

    def of(self, place: Place) -> Position:
        """Where a key stands, or the nearest block around it that is in the file."""
        while place not in self._positions:
            place = place[:-1]
        return self._positions[place]

    def _visit(self, node: yaml.Node, place: Place) -> None:
        for key, position, value in _children(node):
            here = (*place, key)
            if here in self._positions:
                first = self._positions[here].line
                message = f"is there twice, first in line {first}, and YAML takes the last: remove one"
                self.repeated.append((position, Problem(here, message)))
            self._positions[here] = position
            self._visit(value, here)


def _children(node: yaml.Node) -> Iterator[tuple[str | int, Position, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # A merge copies keys of another block, which may be set again.
            if key.tag != "tag:yaml.org,2002:merge":
                yield str(key.value), _position(key), value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, _position(value), value


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
