"""The console script ``macr``.

Each subcommand calls one function, imported only when it runs, so that ``macr --help`` answers at once. Input that the
user can put right ends with one line and exit status 2.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from macr_plugin import __version__
from macr_plugin.cli import app, benchmark, deblur, export, prepare, synthesize
from macr_plugin.errors import one_line_errors

COMMANDS = (prepare, synthesize, benchmark, deblur, export, app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name. Default: those of the process.

    Returns:
        Exit status 0, or 1 if some of the files given could not be done.

    Raises:
        SystemExit: With status 2 after bad arguments or bad input, with 0 after ``--help`` and ``--version``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that the terminal's encoding lacks must not end a program at its last line.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    with one_line_errors("macr"):
        return arguments.run(arguments) or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="macr", description="Tools around the MACR motion-deblurring network.")
    parser.add_argument("--version", action="version", version=f"macr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(commands)
    return parser
