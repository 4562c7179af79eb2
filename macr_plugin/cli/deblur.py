"""``macr deblur``: pictures, videos and folders, deblurred."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from macr_plugin.cli.arguments import add_device, add_weights


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``macr deblur``.

    Args:
        commands: What the command is added to.
    """
    parser = commands.add_parser(
        "deblur",
        help="deblur photos, videos, and whole folders of them",
        description="Deblur pictures (PNG, JPEG, WebP, TIFF, BMP; 8 and 16 bit) and keep what their files say: "
        "orientation, EXIF, colour profile, alpha; videos with their sound and time stamps. What is done is skipped, "
        "so a run that was killed goes on. Under torchrun each process takes its share.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture, video, folder (with its subfolders), glob pattern, or - for a list on standard input",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="OUT",
        help="folder of the results, or file name for one picture (default: deblurred)",
    )
    add_weights(parser)
    add_device(parser)
    parser.add_argument(
        "--tile",
        default="auto",
        metavar="auto|N|0",
        help="cut larger pictures into tiles of N pixels; 0: never; auto: when memory demands it (default)",
    )
    parser.add_argument("--ensemble", action="store_true", help="average eight mirrored and turned passes")
    parser.add_argument("--compare", action="store_true", help="also write NAME_compare: blurred | restored")
    parser.add_argument(
        "--format", default="keep", choices=("keep", "png", "jpg", "webp"), help="of the results (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="write over results that are there")
    parser.set_defaults(run=_deblur)


def _deblur(arguments: argparse.Namespace) -> int:
    from macr_plugin.inference.batch import Settings, deblur_files
    from macr_plugin.inference.memory import keep_freed_memory

    names = ("weights", "device", "precision", "tile", "ensemble", "compare", "overwrite")
    given = {name: getattr(arguments, name) for name in names}
    keep_freed_memory()
    summary = deblur_files(arguments.inputs, arguments.out, Settings(file_format=arguments.format, **given))
    # One of several processes speaks for all.
    if os.environ.get("RANK", "0") == "0":
        print(summary)
    return 1 if summary.failed else 0
