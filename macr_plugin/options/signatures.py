"""Blocks that are a ``type`` and the arguments of a class: networks, losses, metrics, optimizers, schedulers."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any

from macr_plugin.options.problems import NUMBER_AS_TEXT, Place, Problem, number_as_text, unknown

#: What the caller and not the option file gives to optimizers, schedulers and metrics.
GIVEN = {"optimizer": ("params",), "scheduler": ("optimizer", "last_epoch"), "metric": ("img", "img2", "data")}


def names(registry: Any) -> set[str]:
    """Every name that a registry answers to: it also tries a name with the suffix of BasicSR's own classes."""
    return {*registry.keys(), *(name.removesuffix("_basicsr") for name in registry.keys())}  # noqa: SIM118


def check_call(
    block: Any,
    place: Place,
    known: Collection[str],
    find: Callable[[str], Any],
    kind: str,
    is_complete: bool = True,
) -> Iterator[Problem]:
    """Mistakes in a block that is a ``type`` and the arguments of what that names.

    Args:
        block: ``type`` and arguments.
        place: Where it stands.
        known: Names that ``type`` may be.
        find: Gives the class or function of a name.
        kind: What the names are of, for messages.
        is_complete: Whether the block alone has to give every argument without a default.
    """
    if not isinstance(block, dict):
        yield Problem(place, f"is {block!r}: write type and arguments below it")
        return
    name = block.get("type")
    if name is None:
        yield Problem((*place, "type"), f"is missing: it names the {kind}, one of {', '.join(sorted(known))}")
        return
    if not isinstance(name, str) or name not in known:
        yield Problem((*place, "type"), unknown(name, known, kind))
        return
    yield from _check_arguments(block, place, find(name), kind, is_complete)


def _check_arguments(
    block: dict[str, Any], place: Place, target: Any, kind: str, is_complete: bool
) -> Iterator[Problem]:
    given = GIVEN.get(kind, ())
    parameters = inspect.signature(target).parameters
    takes_anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    own = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    # Metrics take anything and ignore it; "better" is read by the validation.
    ignores = takes_anything and kind == "metric" and target.__module__.startswith(("basicsr.", "macr_plugin."))
    for key, value in block.items():
        if key == "type" or (ignores and key == "better"):
            continue
        where = (*place, key)
        if key in own:
            yield from _check_value(value, own[key], where, kind)
        elif not takes_anything or ignores:
            yield Problem(where, unknown(key, own, f"option of {block['type']}"), is_spelling=True)
    for key, parameter in own.items():
        if is_complete and parameter.default is parameter.empty and key not in block:
            yield Problem((*place, key), f"is missing: {block['type']} needs it")


def _check_value(value: Any, parameter: inspect.Parameter, where: Place, kind: str) -> Iterator[Problem]:
    """Compare a value with an argument's default, which is all that most classes tell of its type."""
    default = parameter.default
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        annotation = inspect.formatannotation(annotation)
    if isinstance(value, str) and NUMBER_AS_TEXT.fullmatch(value):
        yield Problem(where, number_as_text(value))
    elif annotation.startswith("Literal["):
        choices = ast.literal_eval(annotation.removeprefix("Literal"))
        if value not in choices:
            yield Problem(where, f"is {value!r}: it must be one of {', '.join(map(repr, choices))}")
    elif isinstance(default, (list, tuple)) and isinstance(value, (str, dict)):
        yield Problem(where, f"is {value!r}: it must be a list such as {list(default)}")
    elif isinstance(default, bool) or annotation == "bool":
        # 0 and 1 do as well in the files of others.
        if isinstance(value, str) or (isinstance(value, (list, dict, float)) and "|" not in annotation):
            yield Problem(where, f"is {value!r}: it must be true or false")
    elif annotation in ("int", "float") or isinstance(default, (int, float)):
        whole = annotation == "int"
        # Losses multiply by what has a number as its default.
        is_number = annotation in ("int", "float") or (kind == "loss" and isinstance(default, float))
        wrong = isinstance(value, str) or (is_number and (value is None or isinstance(value, (bool, list, dict))))
        if ("str" not in annotation and wrong) or (whole and isinstance(value, float)):
            shown = "empty" if value is None else repr(value)
            yield Problem(where, f"is {shown}: it must be a {'whole ' if whole else ''}number")
