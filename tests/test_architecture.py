"""The rooms of the package import each other as docs/architecture.md draws it, and never in a circle."""

import ast
import graphlib
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "macr_plugin"
#: Modules that any room may import, and that import no room.
SMALL = {"__init__", "errors", "filesystem", "visualization", "line_chart", "user_modules"}


def rooms_imported():
    """Pairs of rooms, the first of which imports from the second."""
    pairs = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("macr_plugin."):
                pairs.add((room, node.module.split(".")[1]))
            elif isinstance(node, ast.ImportFrom) and node.module == "macr_plugin":
                pairs |= {(room, alias.name) for alias in node.names if (PACKAGE / alias.name).is_dir()}
    return {(room, other) for room, other in pairs if room != other}


def test_imports_point_along_the_arrows_of_the_diagram():
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE))
    below = {room: {room} for pair in drawn for room in pair}
    for _ in below:
        for room, other in drawn:
            below[room] |= below[other]
    imported = {pair for pair in rooms_imported() if not SMALL & set(pair)}
    assert {(room, other) for room, other in imported if other not in below.get(room, ())} == set()
    assert drawn - imported == set(), "arrows that are no imports"


def test_no_room_imports_in_a_circle():
    graph = {}
    for room, other in rooms_imported():
        if room != "__init__":
            graph.setdefault(room, set()).add(other)
    graphlib.TopologicalSorter(graph).prepare()


def test_small_modules_import_no_room():
    assert {pair for pair in rooms_imported() if pair[0] in SMALL - {"__init__"} and pair[1] not in SMALL} == set()


def test_the_patches_of_basicsr_know_no_room():
    assert {other for room, other in rooms_imported() if room == "basicsr_compat"} <= {"errors", "filesystem"}
