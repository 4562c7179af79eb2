"""The console script ``macr``.

Each subcommand calls one function, imported only when it runs, so that ``macr --help`` answers at once. Input that the
user can put right ends with one line and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from macr_plugin import __version__
from macr_plugin.errors import InputError, one_line_errors

DEMO_FOLDER = Path("datasets/demo")
DEMO_TRAINING = "python -m macr_plugin.train -opt options/macr_demo.yml"
PHOTO_OPTIONS = ("pairs", "size", "storage", "workers")
BLUR_OPTIONS = (
    *("realistic", "extent", "median", "sharp_share", "averaging", "depth", "turn_share", "zoom", "object_share"),
    *("object_folder", "photon_noise", "read_noise", "jpeg_share", "jpeg_quality"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name. Default: those of the process.

    Returns:
        Exit status 0, or 1 if some of the files given could not be done.

    Raises:
        SystemExit: With status 2 after bad arguments or bad input, with 0 after ``--help`` and ``--version``.
    """
    arguments = _parser().parse_args(argv)
    with one_line_errors("macr"):
        return arguments.run(arguments) or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="macr", description="Tools around the MACR motion-deblurring network.")
    parser.add_argument("--version", action="version", version=f"macr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_prepare(commands)
    _add_synthesize(commands)
    _add_benchmark(commands)
    _add_deblur(commands)
    _add_export(commands)
    _add_app(commands)
    return parser


def _add_prepare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    source.add_argument("--photos", type=Path, nargs="+", metavar="PATH", help="sharp photographs, or folders of them")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"what to write (default with --demo: {DEMO_FOLDER})")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other blur (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace a set that this command wrote before")
    photos = parser.add_argument_group("with --photos")
    photos.add_argument("--pairs", type=int, metavar="N", help="pairs rendered from each photograph (default: 7)")
    photos.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="size of the pictures, cut out at random places (default: the photograph less a margin)",
    )
    photos.add_argument(
        "--storage",
        choices=("png", "uncompressed"),
        help="how the LMDBs store the pictures; uncompressed is read fastest and needs the most disk (default: png)",
    )
    photos.add_argument("--workers", type=int, metavar="N", help="number of processes (default: one for each CPU)")
    _add_blur(parser.add_argument_group("blur, with --photos"))
    parser.set_defaults(run=_synthesize)


def _add_blur(blur: argparse._ArgumentGroup) -> None:
    blur.add_argument(
        "--realistic",
        action="store_true",
        default=None,
        help="defaults for blur like that of hand-held cameras, which differs from place to place: those that follow "
        "a semicolon",
    )
    _add_range(
        blur, "--extent", float, "length of the blur in pixels, that of the nearest things (default: 4 12; 0 40)"
    )
    blur.add_argument(
        "--median",
        type=float,
        metavar="PIXELS",
        help="median of the lengths, which are then log-normal (default: evenly spread between the two; 10)",
    )
    _add_share(blur, "--sharp-share", "share of the pairs without blur (default: 0; 0.1)")
    blur.add_argument(
        "--averaging",
        nargs="+",
        choices=("linear", "encoded", "gamma2.2", "highlights"),
        help="average linear light, as a sensor does and GoPro's blur_gamma; encoded values, as GoPro's blur; light "
        "behind a power of 2.2; or linear light with bright lights that leave streaks; of several one is drawn for "
        "each pair (default: linear; all); the pictures go to the folder blur whichever it is",
    )
    blur.add_argument(
        "--depth",
        nargs="+",
        choices=("flat", "ground", "slanted", "smooth"),
        help="where near things are, which follow the camera's change of place: all at one distance, ground below a "
        "horizon, slanted plane, smooth and random; of several one is drawn for each pair (default: flat; all)",
    )
    _add_range(
        blur,
        "--turn-share",
        float,
        "part of the camera's path that is pitch and yaw, which move near and far alike (default: 0 0; 0.2 1)",
    )
    blur.add_argument(
        "--zoom",
        type=float,
        metavar="RATIO",
        help="largest relative change of scale for each pixel of length (default: 0; 3e-4)",
    )
    _add_share(blur, "--object-share", "share of the pairs in which something moves on its own (default: 0; 0.3)")
    blur.add_argument(
        "--object-folder",
        type=Path,
        metavar="DIR",
        help="pictures with alpha that move (default: soft random shapes, filled from another photograph)",
    )
    _add_range(
        blur,
        "--photon-noise",
        float,
        "noise of the blurred picture that grows with the light, at mid-grey in levels of 255 (default: 0 0; 0 2)",
    )
    _add_range(blur, "--read-noise", float, "noise that is the same at any light (default: 0 0; 0 0.1)")
    _add_share(blur, "--jpeg-share", "share of the blurred pictures that went through JPEG (default: 0; 0.2)")
    _add_range(blur, "--jpeg-quality", int, "quality of the JPEG (default: 80 98)")


def _add_range(group: argparse._ArgumentGroup, name: str, kind: type, help_text: str) -> None:
    group.add_argument(name, type=kind, nargs=2, metavar=("MIN", "MAX"), help=f"range of the {help_text}")


def _add_share(group: argparse._ArgumentGroup, name: str, help_text: str) -> None:
    group.add_argument(name, type=float, metavar="SHARE", help=help_text)


def _synthesize(arguments: argparse.Namespace) -> None:
    given = {name for name in (*PHOTO_OPTIONS, *BLUR_OPTIONS) if getattr(arguments, name) is not None}
    if arguments.photos is not None:
        _synthesize_photos(arguments)
    elif given:
        raise InputError(f"{_flag(min(given))} goes with --photos: the demo set is fixed, remove it")
    else:
        _synthesize_demo(arguments)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _synthesize_demo(arguments: argparse.Namespace) -> None:
    from macr_plugin.data.synthesis.demo import write_demo

    out = arguments.out or DEMO_FOLDER
    _report(write_demo(out, arguments.seed, arguments.force), out, f"{out}/{{train,test}}_{{blur,sharp}}.lmdb")
    if out == DEMO_FOLDER:
        print(f"Next: {DEMO_TRAINING}")


def _synthesize_photos(arguments: argparse.Namespace) -> None:
    from macr_plugin.data.synthesis.blur_model import SETTINGS, blur_model
    from macr_plugin.data.synthesis.pair_sets import synthesize_from_photos

    if arguments.out is None:
        raise InputError("--photos needs --out: name the folder to write, such as datasets/mine/train")
    given = {name: getattr(arguments, name) for name in PHOTO_OPTIONS if getattr(arguments, name) is not None}
    if "size" in given:
        width, height = given["size"]
        given["size"] = height, width
    blur = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    written = synthesize_from_photos(
        arguments.photos,
        arguments.out,
        model=blur_model(blur, bool(arguments.realistic), _flag),
        seed=arguments.seed,
        force=arguments.force,
        **given,
    )
    _report(written, arguments.out, f"{arguments.out}_{{blur,sharp}}.lmdb")


def _add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "benchmark",
        help="compare networks for quality, speed and memory",
        description="Compare networks for quality, speed and memory, and write a report. A run that was killed is "
        "followed by one that goes on.",
    )
    parser.add_argument("-opt", type=Path, required=True, metavar="YAML", help="such as options/benchmark_demo.yml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (default: results/NAME)")
    parser.add_argument(
        "--import",
        type=Path,
        action="append",
        default=[],
        dest="imports",
        metavar="FILE",
        help="Python file that registers a network of yours; may be given several times",
    )
    training = parser.add_argument_group("train every network from scratch before it is measured")
    length = training.add_mutually_exclusive_group()
    length.add_argument("--train-iters", type=int, metavar="N", help="steps")
    length.add_argument("--train-budget", metavar="TIME", help="time for each, such as 600s or 2h")
    training.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="one training for each (default: 0)"
    )
    parser.set_defaults(run=_benchmark)


def _benchmark(arguments: argparse.Namespace) -> None:
    from macr_plugin.benchmark.runner import benchmark
    from macr_plugin.benchmark.training import parse_seconds

    budget = None if arguments.train_budget is None else parse_seconds(arguments.train_budget)
    out = benchmark(arguments.opt, arguments.out, arguments.imports, arguments.train_iters, budget, arguments.seeds)
    print(f"Written: {out / 'report.html'}")


def _add_deblur(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    _add_weights(parser)
    _add_device(parser)
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

    names = ("weights", "device", "precision", "tile", "ensemble", "compare", "overwrite")
    given = {name: getattr(arguments, name) for name in names}
    summary = deblur_files(arguments.inputs, arguments.out, Settings(file_format=arguments.format, **given))
    # One of several processes speaks for all.
    if os.environ.get("RANK", "0") == "0":
        print(summary)
    return 1 if summary.failed else 0


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "export",
        help="write a trained network as ONNX or as a graph of torch.export",
        description="Write a trained network as a file that runs without this package, for pictures of every size.",
    )
    _add_weights(parser)
    parser.add_argument("--format", default="onnx", choices=("onnx", "torch-export"), help="default: %(default)s")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="such as macr.onnx or macr.pt2")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from macr_plugin.inference.export import export_network
    from macr_plugin.inference.trained_network import find_weights, load_network

    network, source = load_network(arguments.weights), find_weights(arguments.weights).name
    for name, value in export_network(network, arguments.out, arguments.format, source).items():
        print(f"{name}: {value}")
    print(f"Written: {arguments.out}")


def _add_app(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "app",
        help="a page on this machine to drop a photo on",
        description="Serve a page on this machine, and on no other, to drop a photo on: compare it before and after, "
        "and download the result in full size with its metadata.",
    )
    _add_weights(parser)
    _add_device(parser)
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


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        default="macr-small",
        metavar="NAME|FILE|FOLDER",
        help="shipped weights, a .pth or .safetensors file, or the folder of a training (default: %(default)s)",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="default: %(default)s"
    )


def _report(written: bool, pictures: Path, lmdbs: str) -> None:
    print(f"{'Written' if written else 'Already there'}: pictures in {pictures}, LMDBs {lmdbs}")


if __name__ == "__main__":
    sys.exit(main())
