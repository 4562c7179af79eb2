"""Write options/ablation/ from options/macr_gopro.yml and scripts/ablations.yml, which says what each file changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from generated import write_or_check

from macr_plugin.options.positions import Positions

REPOSITORY = Path(__file__).parents[1]
BASE = REPOSITORY / "options" / "macr_gopro.yml"
DIFFERENCES = REPOSITORY / "scripts" / "ablations.yml"


def contents() -> dict[Path, str]:
    """Every file and what it should hold."""
    differences = yaml.safe_load(DIFFERENCES.read_text())
    return {BASE.parent / "ablation" / f"{name}.yml": ablation(name, **entry) for name, entry in differences.items()}


def ablation(name: str, head: list[str], changes: Mapping[str, str | None]) -> str:
    """Make one file.

    Args:
        name: Of the file and its run.
        head: What it is, and its cost.
        changes: Dotted keys of the base and what stands behind their colon; None leaves the key out.
    """
    lines: list[str | None] = list(BASE.read_text().splitlines())
    positions = Positions(BASE)
    first = next(number for number, line in enumerate(lines) if line is not None and not line.startswith("#"))
    purpose, cost = head
    lines[:first] = [None] * first
    for key, text in {"name": f"{name}  # folder below experiments/ and tb_logger/", **changes}.items():
        place = tuple(key.split("."))
        at = positions.of(place)
        written = str(lines[at.line - 1]).lstrip()
        if not written.startswith(f"{place[-1]}:"):
            raise KeyError(f"{DIFFERENCES}: {name}: {BASE.name} has no key {key}")
        lines[at.line - 1] = None if text is None else f"{' ' * (at.column - 1)}{place[-1]}: {text}"
    comments = [
        f"# {purpose}",
        f"# {cost} Data and training as in options/macr_gopro.yml.",
        f"# python -m basicsr.train -opt options/ablation/{name}.yml",
    ]
    return "\n".join([*comments, *(line for line in lines if line is not None)]) + "\n"


if __name__ == "__main__":
    write_or_check(contents(), __doc__)
