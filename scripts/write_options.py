"""Write docs/options.md and the schemas that editors read, from the descriptions that check the option files."""

from __future__ import annotations

from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
from generated import write_or_check

from macr_plugin.benchmark.options import Benchmark
from macr_plugin.options.reference import as_json, reference, run_schema, schema_of

DOCS = Path(__file__).parents[1] / "docs"


def contents() -> dict[Path, str]:
    """Every file and what it should hold."""
    return {
        DOCS / "options.md": reference(Benchmark),
        DOCS / "options.schema.json": as_json(run_schema()),
        DOCS / "benchmark.schema.json": as_json(schema_of(Benchmark)),
    }


if __name__ == "__main__":
    write_or_check(contents(), __doc__)
