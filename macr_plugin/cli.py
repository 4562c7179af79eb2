"""The console script ``macr``.

Each subcommand calls one function, imported only when it runs, so that ``macr --help`` answers at once. Input that the
user can put right ends with one line and exit status 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from macr_plugin import __version__
from macr_plugin.errors import InputError, one_line_errors

DEMO_FOLDER = Path("datasets/demo")
DEMO_TRAINING = "python -m macr_plugin.train -opt options/macr_demo.yml"
PHOTO_OPTIONS = ("pairs", "extent", "workers")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name. Default: those of the process.

    Returns:
        Exit status 0.

    Raises:
        SystemExit: With status 2 after bad arguments or bad input, with 0 after ``--help`` and ``--version``.
    """
    arguments = _parser().parse_args(argv)
    with one_line_errors("macr"):
        arguments.run(arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="macr", description="Tools around the MACR motion-deblurring network.")
    parser.add_argument("--version", action="version", version=f"macr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_synthesize(commands)
    return parser


def _add_synthesize(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "synthesize",
        help="render motion-blurred pairs from sharp photographs",
        description="Render motion-blurred pairs from sharp photographs, as PNG files in the GoPro layout and as LMDBs "
        "that BasicSR reads. With --photos each photograph becomes a scene: OUT/PHOTO/{blur,sharp}/NNNNNN.png, "
        "OUT_blur.lmdb and OUT_sharp.lmdb.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--demo", action="store_true", help="the demo set, from photographs installed with scikit-image"
    )
    source.add_argument("--photos", type=Path, metavar="DIR", help="folder of sharp photographs")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"what to write (default with --demo: {DEMO_FOLDER})")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other blur (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace a set that this command wrote before")
    photos = parser.add_argument_group("with --photos")
    photos.add_argument("--pairs", type=int, metavar="N", help="pairs rendered from each photograph (default: 7)")
    photos.add_argument(
        "--extent",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="range of the length of the blur in pixels (default: 4 12)",
    )
    photos.add_argument("--workers", type=int, metavar="N", help="number of processes (default: 1)")
    parser.set_defaults(run=_synthesize)


def _synthesize(arguments: argparse.Namespace) -> None:
    given = {name: getattr(arguments, name) for name in PHOTO_OPTIONS if getattr(arguments, name) is not None}
    if arguments.photos is not None:
        _synthesize_photos(arguments, given)
    elif given:
        raise InputError(f"--{next(iter(given))} goes with --photos: the demo set is fixed, remove it")
    else:
        _synthesize_demo(arguments)


def _synthesize_demo(arguments: argparse.Namespace) -> None:
    from macr_plugin.data.demo import write_demo

    out = arguments.out or DEMO_FOLDER
    _report(write_demo(out, arguments.seed, arguments.force), out, f"{out}/{{train,test}}_{{blur,sharp}}.lmdb")
    if out == DEMO_FOLDER:
        print(f"Next: {DEMO_TRAINING}")


def _synthesize_photos(arguments: argparse.Namespace, given: dict[str, Any]) -> None:
    from macr_plugin.data.motion_blur import synthesize_from_photos

    if arguments.out is None:
        raise InputError("--photos needs --out: name the folder to write, such as datasets/mine/train")
    written = synthesize_from_photos(
        arguments.photos, arguments.out, seed=arguments.seed, force=arguments.force, **given
    )
    _report(written, arguments.out, f"{arguments.out}_{{blur,sharp}}.lmdb")


def _report(written: bool, pictures: Path, lmdbs: str) -> None:
    print(f"{'Written' if written else 'Already there'}: pictures in {pictures}, LMDBs {lmdbs}")


if __name__ == "__main__":
    sys.exit(main())
