"""Test with BasicSR's pipeline: ``python -m macr_plugin.test -opt options/test_macr_gopro.yml``.

Takes the arguments of ``python -m basicsr.test``. Output goes below the current directory.
"""

from __future__ import annotations

from pathlib import Path

from macr_plugin.errors import one_line_errors
from macr_plugin.training_program import mend_this_program


def main() -> None:
    """Run the test pipeline with the command line's arguments."""
    import basicsr.test

    mend_this_program()
    with one_line_errors("macr_plugin.test"):
        basicsr.test.test_pipeline(str(Path.cwd()))


if __name__ == "__main__":
    main()
