"""Picture files in and out: nothing but the blur gets lost on the way.

8 and 16 bit, grey, alpha and palette are told by the file; pixels come upright and in RGB. 8 bit goes through Pillow,
16 bit, which Pillow has for grey alone, through OpenCV and tifffile.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from macr_plugin.data.picture_files import PNG_COMPRESSION, read_bytes
from macr_plugin.errors import InputError
from macr_plugin.filesystem.atomic import atomic_write
from macr_plugin.inference.decode_16_bit import EXTRA_SAMPLES, NO_ALPHA, bits_per_sample, decode_16_bit
from macr_plugin.inference.metadata import (
    Metadata,
    read_metadata,
    tiff_tags,
    with_png_chunks,
    with_tiff_directories,
)

#: File suffix to the format that Pillow knows it by.
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
KNOWN = "PNG, JPEG, WebP, TIFF or BMP"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Turns pixels upright, by EXIF orientation.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
#: Of a JPEG file whose source was none.
JPEG_QUALITY = 95
#: Of a WebP file whose source lost something already.
WEBP_QUALITY = 95
WRITE_REMEDY = "free some disk space, or choose a folder that may be written (-o)"

#: How the tables and the colour of a JPEG file were coded.
JpegCoding = dict[str, Any]


@dataclass
class Picture:
    """A picture and everything that its file says beyond the colours.

    Attributes:
        pixels: Shape (H, W, 3), RGB, uint8 or uint16, upright.
        alpha: Shape (H, W), of the same type; None if the file has none.
        grey: The file has one channel of colour.
        metadata: Colour profile, EXIF and so on.
        jpeg: How the file was coded, if it is a JPEG.
        lossless: The file's compression lost nothing.
        notes: What could not be kept, for people.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    jpeg: JpegCoding | None = None
    lossless: bool = True
    notes: list[str] = field(default_factory=list)

    def samples(self) -> np.ndarray:
        """Colour and alpha in one array, uint8 or uint16: (H, W) grey, or (H, W, C) with C from 2 to 4."""
        colour = self.pixels
        if self.grey:
            mean = self.pixels.mean(axis=-1, dtype=np.float32)
            colour = mean.round().astype(self.pixels.dtype)[..., None]
        if self.alpha is not None:
            colour = np.concatenate([colour, self.alpha[..., None]], axis=-1)
        return colour[..., 0] if colour.shape[-1] == 1 else colour


def read_picture(path: Path) -> Picture:
    """Read a picture file.

    Args:
        path: A PNG, JPEG, WebP, TIFF or BMP file, whatever its suffix says.

    Returns:
        Upright pixels (H, W, 3), RGB, uint8 or uint16, with alpha and metadata.

    Raises:
        InputError: If it is missing, damaged, of another kind, or holds what cannot be kept.
    """
    data = read_bytes(path)
    if not data:
        raise InputError(f"{path} is empty: copy it again, or remove it")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _decode(image, data, path)
    except UnidentifiedImageError as error:
        if data.startswith(TIFF_STARTS):
            raise InputError(
                f"{path} is damaged, or a TIFF file of a kind that cannot be read: save it as grey or RGB, 8 or 16 bits"
            ) from error
        raise InputError(f"{path} is not a picture that can be read: expected {KNOWN}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large ({error}): cut it into parts") from error
    # Pillow's decoders tell of damage in all of these ways.
    except (OSError, SyntaxError, ValueError, EOFError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged or incomplete ({reason}): copy it again, or remove it") from error


def _decode(image: Image.Image, data: bytes, path: Path) -> Picture:
    if image.format not in {*FORMATS.values(), "MPO"}:
        raise InputError(f"{path} is in the format {image.format}: save it as {KNOWN}")
    notes = []
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":
        notes.append(f"the first of {frames} pictures in the file is kept")
    elif frames > 1:
        raise InputError(f"{path} holds {frames} pictures: save each as a file of its own")
    kind, deep = image.format, bits_per_sample(image, data, path) == 16
    metadata, orientation = read_metadata(image)
    jpeg = _jpeg_coding(image) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    # Also finds out whether the file is whole, and reads what stands behind the pixels.
    image.load()
    if metadata.exif is None and image.format == "PNG":
        metadata, orientation = read_metadata(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if NO_ALPHA in tags.get(EXTRA_SAMPLES, ()):
        notes.append("a channel that is neither colour nor alpha was left out")
    if deep:
        samples = decode_16_bit(image, data, path)
    else:
        image, icc = _plain_colour(image, notes, path)
        metadata = dataclasses.replace(metadata, icc=icc)
        samples = np.asarray(image)
    # Both libraries turn these upright themselves.
    if kind == "TIFF":
        orientation = 1
    return _picture(UPRIGHT[orientation](samples), metadata, jpeg, _is_lossless(image, data), notes)


def _picture(
    samples: np.ndarray, metadata: Metadata, jpeg: JpegCoding | None, lossless: bool, notes: list[str]
) -> Picture:
    if samples.ndim == 2:
        samples = samples[..., None]
    channels = samples.shape[-1]
    grey = channels < 3
    colour = samples[..., :1].repeat(3, axis=-1) if grey else samples[..., :3]
    alpha = samples[..., -1] if channels in (2, 4) else None
    return Picture(np.ascontiguousarray(colour), alpha, grey, metadata, jpeg, lossless, notes)


def _plain_colour(image: Image.Image, notes: list[str], path: Path) -> tuple[Image.Image, bytes | None]:
    """The picture as L, LA, RGB or RGBA, with the colour profile that goes with it."""
    icc = image.info.get("icc_profile") or None
    if image.mode == "CMYK":
        notes.append("CMYK was converted to sRGB")
        return _to_srgb(image, icc)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return image.convert("L"), icc
    if image.mode in ("L", "LA", "La", "1"):
        return image.convert("LA"), icc
    if image.mode == "RGBA" or image.mode in ("PA", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA"), icc
    if image.mode in ("P", "RGB", "RGBX", "YCbCr"):
        return image.convert("RGB"), icc
    raise InputError(f"{path} has the colour mode {image.mode}: save it as RGB or grey")


def _to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes]:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = None
    if icc:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB"), srgb.tobytes()


def _jpeg_coding(image: JpegImagePlugin.JpegImageFile) -> JpegCoding:
    tables = [list(image.quantization[key]) for key in sorted(image.quantization)]
    # Pillow gives the first table to luma and the second to both colours.
    if len(tables) > 2:
        tables = [tables[0], [min(values) for values in zip(*tables[1:], strict=True)]]
    coding: JpegCoding = {"qtables": tables, "progressive": bool(image.info.get("progressive"))}
    sampling = JpegImagePlugin.get_sampling(image)
    # Others than 4:4:4, 4:2:2 and 4:2:0 are rare and become the best.
    coding["subsampling"] = sampling if sampling in (0, 1, 2) else 0
    return coding


def _is_lossless(image: Image.Image, data: bytes) -> bool:
    if data[:4] != b"RIFF":
        return not data.startswith(b"\xff\xd8")
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        place += 8 + size + size % 2
    return False


def write_picture(picture: Picture, path: Path, record: Callable[[os.stat_result], None] | None = None) -> None:
    """Write a picture with its metadata, atomically.

    JPEG takes the quantisation tables and the subsampling of its source, or quality 95 without subsampling; WebP is
    lossless if the source was.

    Args:
        picture: What to write, (H, W, 3), uint8 or uint16.
        path: Where; its suffix says how. Missing folders are made.
        record: Called with size and time of change of the finished file before it gets its name.

    Raises:
        InputError: If the format cannot hold the picture, or the file cannot be written.
    """
    content = encode_picture(picture, path)
    with atomic_write(path, WRITE_REMEDY) as file:
        file.write(content)
        file.flush()
        if record is not None:
            record(os.fstat(file.fileno()))


def encode_picture(picture: Picture, path: Path) -> bytes:
    """Encode a picture as the suffix of its file says.

    Args:
        picture: What to encode, (H, W, 3), uint8 or uint16.
        path: The file, for its suffix and for messages.

    Raises:
        InputError: If the format cannot hold the picture.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} has no suffix of a picture: expected {', '.join(FORMATS)}")
    if picture.grey and picture.alpha is not None and picture.pixels.dtype == np.uint16:
        # In 16 bit OpenCV writes no grey with alpha, and Pillow reads none. A profile for grey does not fit RGB.
        picture = dataclasses.replace(picture, grey=False, metadata=dataclasses.replace(picture.metadata, icc=None))
    if kind == "TIFF":
        return _encode_tiff(picture)
    if kind == "PNG" and picture.pixels.dtype == np.uint16:
        return _encode_deep_png(picture)
    if kind == "BMP" and picture.alpha is not None:
        return _encode_bmp_with_alpha(_fitting(picture, kind, path))
    return _encode_shallow(_fitting(picture, kind, path), kind, path)


def _fitting(picture: Picture, kind: str, path: Path) -> Picture:
    """The picture in 8 bit, without an alpha channel that shows everything where the format has none."""
    if picture.pixels.dtype == np.uint16:
        picture.notes.append(f"16 bit became 8 bit, since {kind} has no more")
        pixels = to_8_bit(picture.pixels)
        alpha = None if picture.alpha is None else to_8_bit(picture.alpha)
        picture = dataclasses.replace(picture, pixels=pixels, alpha=alpha)
    if kind == "JPEG" and picture.alpha is not None:
        if picture.alpha.min() < 255:
            raise InputError(f"{path} cannot keep the alpha channel: choose png or webp (--format)")
        picture = dataclasses.replace(picture, alpha=None)
    return picture


def to_8_bit(samples: np.ndarray) -> np.ndarray:
    """Round samples of 16 bit to 8 bit.

    Args:
        samples: uint16, of any shape.
    """
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _encode_shallow(picture: Picture, kind: str, path: Path) -> bytes:
    metadata, options = picture.metadata, {}
    if kind == "JPEG":
        options = picture.jpeg or {"quality": JPEG_QUALITY, "subsampling": 0}
    elif kind == "PNG":
        options = {"compress_level": PNG_COMPRESSION}
    elif kind == "WEBP":
        options = {"lossless": True, "exact": True} if picture.lossless else {"quality": WEBP_QUALITY}
    if kind != "PNG":
        known = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
        options = options | {name: value for name, value in known.items() if value}
    buffer = io.BytesIO()
    try:
        Image.fromarray(picture.samples()).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be encoded ({error}): choose png (--format)") from error
    content = buffer.getvalue()
    return with_png_chunks(content, metadata) if kind == "PNG" else content


def _encode_deep_png(picture: Picture) -> bytes:
    samples = picture.samples()
    if samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[-1]]]
    _, encoded = cv2.imencode(".png", samples)
    return with_png_chunks(encoded.tobytes(), picture.metadata)


def _encode_bmp_with_alpha(picture: Picture) -> bytes:
    """Pillow writes the channel and does not say in the file that it is one."""
    _, encoded = cv2.imencode(".bmp", np.dstack([picture.pixels[..., ::-1], np.asarray(picture.alpha)]))
    return encoded.tobytes()


def _encode_tiff(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        picture.samples(),
        photometric="minisblack" if picture.grey else "rgb",
        extrasamples=None if picture.alpha is None else ["unassalpha"],
        planarconfig="contig",
        compression="zlib",
        byteorder="<",
        metadata=None,
        software=False,
        resolution=picture.metadata.dpi,
        resolutionunit="inch" if picture.metadata.dpi else None,
        bigtiff=False,
        extratags=tiff_tags(picture.metadata),
    )
    return with_tiff_directories(buffer.getvalue(), picture.metadata)
