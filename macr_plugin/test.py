"""Test with BasicSR's pipeline: ``python -m macr_plugin.test -opt options/test_macr_gopro.yml``.

Takes the arguments of ``python -m basicsr.test``, and ``--import FILE`` for each Python file that registers a network,
metric or dataset of your own. Output goes below the current directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from macr_plugin.basicsr_compat.failed_starts import no_folders_of_failed_starts
from macr_plugin.errors import one_line_errors
from macr_plugin.training_program import patch_this_program
from macr_plugin.user_modules import import_files, take_imports


def main() -> None:
    """Run the test pipeline with the command line's arguments."""
    import basicsr.test

    patch_this_program()
    with one_line_errors("macr_plugin.test"), no_folders_of_failed_starts():
        import_files(take_imports(sys.argv))
        basicsr.test.test_pipeline(str(Path.cwd()))


if __name__ == "__main__":
    main()
