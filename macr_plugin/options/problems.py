"""What is wrong with an option, in words that name the right key or value."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from macr_plugin.errors import nearest_name

#: Keys and list indices from the top of the file down to a value.
Place = tuple[str | int, ...]

NUMBER_AS_TEXT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)

#: What pydantic calls a value of the wrong type, and what is right.
EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list such as [1, 2]",
    "tuple_type": "a list such as [1, 2]",
    "dict_type": "keys and values below it",
    "model_type": "keys and values below it",
    "dataclass_type": "keys and values below it",
    "none_required": "nothing",
    "finite_number": "a finite number",
}


class Problem(NamedTuple):
    """One mistake.

    Attributes:
        place: Where it is; its last key may be missing from the file.
        message: What is wrong and what is right, without the place.
        is_spelling: Whether it is no more than a key that nothing reads, so that everything else can be checked.
    """

    place: Place
    message: str
    is_spelling: bool = False

    @property
    def key(self) -> str:
        """Dotted name of the place."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).lstrip(".")

    def __str__(self) -> str:
        """The mistake in one line."""
        return f"{self.key}: {self.message}" if self.key else self.message


def unknown(name: Any, known: Collection[str], kind: str) -> str:
    """Say that a name is not among the known ones.

    Args:
        name: What was written.
        known: Names that are right.
        kind: What they are names of.
    """
    return f"unknown {kind} {name!r}: {nearest_name(str(name), known)}"


def validate(model: type, block: Any, place: Place, kind: str = "key") -> Iterator[Problem]:
    """Everything in a block that its description does not allow.

    Args:
        model: The description, a pydantic model or a dataclass with the annotations of one.
        block: The block of the option file.
        place: Where it stands.
        kind: What its keys are, for messages.
    """
    try:
        TypeAdapter(model).validate_python(block)
    except ValidationError as error:
        found: dict[Place, Problem] = {}
        for detail in error.errors(include_url=False):
            problem = _problem(detail, model, block, place, kind)
            # A value that may be of several types has a complaint of each: the first stands for all.
            found.setdefault(problem.place, problem)
        yield from found.values()


def _problem(detail: Any, model: type, block: Any, place: Place, kind: str) -> Problem:
    type_, path = detail["type"], _path_in(block, detail["loc"])
    where = (*place, *path)
    if type_ in ("extra_forbidden", "unexpected_keyword_argument"):
        return Problem(where, unknown(path[-1], _fields_at(model, path[:-1]), kind), is_spelling=True)
    if type_ == "missing":
        where = (*place, *detail["loc"])
        return Problem(where, "is missing: add it, docs/options.md says what it means")
    value = detail["input"]
    if type_ == "invalid_key" or detail["loc"][-1:] == ("[key]",):
        parents = _path_in(block, detail["loc"][: -1 if type_ == "invalid_key" else -2])
        written = json.dumps(value, default=str)
        return Problem((*place, *parents, written), "is a key that YAML does not read as text: quote or remove it")
    if isinstance(value, str) and NUMBER_AS_TEXT.fullmatch(value):
        return Problem(where, number_as_text(value))
    expected = EXPECTED.get(type_)
    if type_ == "literal_error":
        expected = f"one of {detail['ctx']['expected']}"
    if expected is None:
        expected = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    shown = "empty" if value is None else repr(value)
    return Problem(where, f"is {shown if len(shown) < 60 else type(value).__name__}: it must be {expected}")


def number_as_text(value: str) -> str:
    """Say that YAML takes a number for text: it was quoted, or is none of YAML 1.1."""
    is_quoted = not isinstance(yaml.safe_load(value), str)
    return f"YAML reads {value} as text: write {'it without quotes' if is_quoted else f'!!float {value}'}"


def _path_in(block: Any, location: tuple[Any, ...]) -> Place:
    """The part of pydantic's location that consists of keys and indices: it also names the types that it tried."""
    path: list[str | int] = []
    for part in location:
        inside = (isinstance(block, Mapping) and part in block) or (
            isinstance(block, list) and isinstance(part, int) and part < len(block)
        )
        if inside:
            path.append(part)
            block = block[part]
    return tuple(path)


def _fields_at(model: type, path: Place) -> Collection[str]:
    for part in path:
        nested = [kind for kind in _types_of(_fields(model).get(str(part))) if _fields(kind)]
        # A list has the description of its elements, which the index then stays in.
        model = nested[0] if nested else model
    return _fields(model)


def _fields(model: Any) -> dict[str, Any]:
    """Names and types of what a description has."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    if isinstance(model, type) and dataclasses.is_dataclass(model):
        hints = get_type_hints(model)
        return {field.name: hints[field.name] for field in dataclasses.fields(model)}
    return {}


def _types_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _types_of(argument)
