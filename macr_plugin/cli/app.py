"""``macr app``: a page on this machine to drop a photo on."""

from __future__ import annotations

import argparse

from macr_plugin.cli.arguments import add_device, add_weights


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``macr app``.

    Args:
        commands: What the command is added to.
    """
    parser = commands.add_parser(
        "app",
        help="a page on this machine to drop a photo on",
        description="Serve a page on this machine, and on no other, to drop a photo on: compare it before and after, "
        "and download the result in full size with its metadata.",
    )
    add_weights(parser)
    add_device(parser)
    parser.add_argument(
        "--tile",
        type=int,
        default=1024,
        metavar="N",
        help="cut larger photos into tiles of N pixels, which the progress bar counts; 0: never (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=7870, metavar="N", help="on 127.0.0.1; 0 for any (default: %(default)s)"
    )
    parser.set_defaults(run=_app)


def _app(arguments: argparse.Namespace) -> None:
    from macr_plugin.inference.app import require_server, serve
    from macr_plugin.inference.deblurrer import Deblurrer

    require_server()
    deblurrer = Deblurrer(arguments.weights, arguments.device, arguments.precision, arguments.tile)
    serve(deblurrer, arguments.port)
