"""``macr prepare``: a downloaded data set becomes LMDBs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``macr prepare``.

    Args:
        commands: What the command is added to.
    """
    parser = commands.add_parser(
        "prepare",
        help="turn a downloaded data set into LMDBs",
        description="Turn a downloaded data set into LMDBs. Every pair is checked, the source is only read, and a run "
        "that was killed is followed by one that goes on.",
    )
    sets = parser.add_subparsers(title="data sets", required=True, metavar="DATASET")
    gopro = _add_data_set(sets, "gopro", "GOPRO_Large", "GoPro, 2103 pairs to train with and 1111 to test with")
    gopro.add_argument(
        "--blur",
        choices=("blur", "blur_gamma"),
        default="blur",
        help="blurred version: mean of the frames as stored, or in linear light (default: %(default)s)",
    )
    gopro.add_argument(
        "--storage",
        choices=("png", "crops", "uncompressed"),
        default="png",
        help="how to store the training split: whole PNG frames, PNG crops, or whole raw frames, which are read "
        "fastest and need the most disk (default: %(default)s); the test split is always whole PNG frames",
    )
    gopro.add_argument(
        "--crop-size", type=int, metavar="PIXELS", help="side of the crops (default: 512, as NAFNet and Restormer)"
    )
    gopro.add_argument(
        "--crop-step", type=int, metavar="PIXELS", help="distance between crops (default: 256, as NAFNet and Restormer)"
    )
    gopro.set_defaults(run=_prepare_gopro)
    hide = _add_data_set(sets, "hide", "HIDE_dataset", "HIDE, 2025 pairs to test with")
    hide.set_defaults(run=_prepare_hide)
    realblur = _add_data_set(sets, "realblur", "RealBlur", "RealBlur, 980 pairs to test with in each subset")
    realblur.add_argument(
        "--subset", choices=("J", "R"), default="J", help="pictures from JPEG or from raw (default: %(default)s)"
    )
    realblur.set_defaults(run=_prepare_realblur)


def _add_data_set(
    sets: argparse._SubParsersAction[argparse.ArgumentParser], name: str, folder: str, help_text: str
) -> argparse.ArgumentParser:
    parser = sets.add_parser(name, help=help_text, description=f"{help_text}.")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=f"downloaded folder, such as {folder}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the LMDBs")
    parser.add_argument("--workers", type=int, metavar="N", help="number of threads (default: processors, at most 8)")
    parser.add_argument("--force", action="store_true", help="replace LMDBs made from other pictures or settings")
    return parser


def _prepare_gopro(arguments: argparse.Namespace) -> None:
    from macr_plugin.data.preparation.prepare import prepare_gopro
    from macr_plugin.data.storage.crop_grid import CropGrid

    given = {"size": arguments.crop_size, "step": arguments.crop_step}
    given = {name: value for name, value in given.items() if value is not None}
    prepare_gopro(
        arguments.root,
        arguments.out,
        arguments.blur,
        arguments.storage,
        CropGrid(**given) if given else None,
        arguments.workers,
        arguments.force,
    )


def _prepare_hide(arguments: argparse.Namespace) -> None:
    from macr_plugin.data.preparation.prepare import prepare_hide

    prepare_hide(arguments.root, arguments.out, arguments.workers, arguments.force)


def _prepare_realblur(arguments: argparse.Namespace) -> None:
    from macr_plugin.data.preparation.prepare import prepare_realblur

    prepare_realblur(arguments.root, arguments.out, arguments.subset, arguments.workers, arguments.force)
