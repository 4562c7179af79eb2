"""Check what ruff has no rule for: ``make lint`` runs it.

* Modules of the package and scripts have at most 400 lines.
* A public function or method that takes or gives tensors or pictures names a shape and a range of values, or a unit.
* No line of a docstring only repeats the name that it explains (``key: Its key.``), and no explanation of a small
  function is longer than the function.
* Generated files (options, schemas, ablations) are what their scripts write.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import write_ablations
import write_options
from generated import stale

REPOSITORY = Path(__file__).parents[1]
MOST_LINES = 400
#: Annotations of tensors and pictures.
PICTURES = re.compile(r"\b(Tensor|ndarray|NDArray|Picture)\b")
#: Such as (N, 3, H, W), (H, W), (K,), (..., 2), (): capitals, numbers and dots.
SHAPE = re.compile(
    r"\((?:[A-Z]\w?\w?'?|\d+|\.\.\.|rows|num_feat|in_channels)[^(),]*,[^()]*\)|-> \(\)"
    r"|\b(?:[Ss]hape|array)s? (?:of (?:one )?shape )?\(|\b(?:any|same|that|its|weight's) shapes?\b|\bscalars?\b"
)
#: Such as [0, 1], uint8, "of any value", "in pixels", "at least 0".
RANGE = re.compile(
    r"\[-?\d[\d.]*, (?:\d[\d.]*|``data_range``)[\])]|\b(?:u?int\d+|bool)\b|\bany (?:dtype|value|shape and value)"
    r"|\bat (?:least|most) \d|\b(?:pixels|radians|degrees|decibels|seconds|logits?)\b",
    re.IGNORECASE,
)
REPEATED = re.compile(r"^\s+(\w+): (?:its|the|an?) \1\.$", re.IGNORECASE | re.MULTILINE)
SECTION = re.compile(r"^\s*(?:Args|Attributes|Example|Raises|Returns|Shape|Yields):$", re.MULTILINE)
#: A body of so few lines is explained in fewer than SMALL_PROSE, sections of shapes, arguments and examples aside.
SMALL_BODY, SMALL_PROSE = 3, 6


def functions(tree: ast.AST, inside: ast.ClassDef | None = None) -> Iterator[tuple[ast.FunctionDef, str, str]]:
    """Every function and method with its docstring, and all that its reader sees: ``forward`` has the class's too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, node)
        elif isinstance(node, ast.FunctionDef):
            own = ast.get_docstring(node) or ""
            of_class = (ast.get_docstring(inside) or "") if inside and node.name in ("forward", "__init__") else ""
            public = not node.name.startswith("_") and not (inside and inside.name.startswith("_"))
            yield node, own, f"{own}\n{of_class}" if public else ""


def problems_of_docstring(node: ast.FunctionDef, own: str, seen: str) -> Iterator[str]:
    """What the docstring of one function lacks, or has too much of.

    Args:
        node: The function.
        own: Its docstring.
        seen: What a reader of the reference sees of it; empty for what is not public.
    """
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    annotations = [*(argument.annotation for argument in arguments), node.returns]
    if seen and any(PICTURES.search(ast.unparse(annotation)) for annotation in annotations if annotation):
        if not SHAPE.search(seen):
            yield "names no shape, such as (N, 3, H, W)"
        if not RANGE.search(seen):
            yield "names no range of values, such as RGB in [0, 1] or uint8"
    body = node.body[1:]
    lines = body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else SMALL_BODY + 1
    prose = [line for line in SECTION.split(own, maxsplit=1)[0].splitlines() if line.strip()]
    if lines <= SMALL_BODY and len(prose) >= SMALL_PROSE and not SECTION.search(own):
        yield f"explains {lines} lines in {len(prose)}"


def problems_of_module(text: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and text of each problem of a module.

    Args:
        text: Of the module.
        is_package: Whether docstrings have to name shapes; scripts are not in the reference.
    """
    if (lines := text.count("\n")) > MOST_LINES:
        yield lines, f"the module has {lines} lines: split it by sense, {MOST_LINES} are the most"
    tree = ast.parse(text)
    for node, own, seen in functions(tree):
        for problem in problems_of_docstring(node, own, seen if is_package else ""):
            yield node.lineno, f"{node.name} {problem}"
    for found in REPEATED.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, f"{found[0].strip()!r} says no more than the name"


def main() -> None:
    """Print every problem as ``file:line: text`` and end with status 1 if there is one."""
    problems = [
        f"{path.relative_to(REPOSITORY)}:{line}: {problem}"
        for folder in ("macr_plugin", "scripts")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for line, problem in problems_of_module(path.read_text(), folder == "macr_plugin")
    ]
    paths = stale(write_options.contents() | write_ablations.contents())
    problems += [f"{path.relative_to(REPOSITORY)}: not current, run `make options`" for path in paths]
    if problems:
        raise SystemExit("\n".join([*problems, f"{len(problems)} problems"]))


if __name__ == "__main__":
    main()
