"""``macr synthesize``: motion-blurred pairs from sharp photographs."""

from __future__ import annotations

import argparse
from pathlib import Path

from macr_plugin.errors import InputError

DEMO_FOLDER = Path("datasets/demo")
DEMO_TRAINING = "python -m macr_plugin.train -opt options/macr_demo.yml"
PHOTO_OPTIONS = ("pairs", "size", "storage", "workers")
BLUR_OPTIONS = (
    *("realistic", "extent", "median", "sharp_share", "averaging", "depth", "turn_share", "zoom", "object_share"),
    *("object_folder", "photon_noise", "read_noise", "jpeg_share", "jpeg_quality"),
)


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``macr synthesize``.

    Args:
        commands: What the command is added to.
    """
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


def _report(written: bool, pictures: Path, lmdbs: str) -> None:
    print(f"{'Written' if written else 'Already there'}: pictures in {pictures}, LMDBs {lmdbs}")
