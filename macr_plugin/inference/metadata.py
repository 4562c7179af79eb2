"""What a picture file says about its pixels: colour profile, EXIF, XMP and resolution, from file to file."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from tifffile import DATATYPE

EXIF_HEADER = b"Exif\x00\x00"
#: Tags of a TIFF file's first directory that describe the picture; the others describe how its pixels are stored.
DESCRIPTIVE_TAGS = (
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist),
    *(Base.HostComputer, Base.Copyright, Base.Rating, Base.XPTitle, Base.XPComment, Base.XPAuthor),
    *(Base.XPKeywords, Base.XPSubject),
)
SUB_DIRECTORIES = (IFD.Exif, IFD.GPSInfo)
XMP_TAG, ICC_TAG = 700, 34675
PNG_SIGNATURE_AND_HEADER = 8 + 25
METRES_PER_INCH = 0.0254


@dataclass
class Metadata:
    """Metadata of a picture that is stored upright.

    Attributes:
        icc: The colour profile.
        exif: The EXIF block as in a JPEG file, header included.
        xmp: The XMP packet.
        dpi: Horizontal and vertical resolution in pixels per inch.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


def read_metadata(image: Image.Image) -> tuple[Metadata, int]:
    """Take the metadata of a file that Pillow has opened.

    Args:
        image: The picture; not yet loaded if it is a TIFF file, whose pixels Pillow then turns upright.

    Returns:
        The metadata as they must be once the pixels are upright, and the EXIF orientation of the file, from 1 to 8.
    """
    tags = image.getexif()
    orientation = tags.get(Base.Orientation, 1)
    exif = _exif_of_tiff(tags) if image.format == "TIFF" else image.info.get("exif")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    metadata = Metadata(
        icc=image.info.get("icc_profile") or None,
        exif=_upright_exif(exif) if exif else None,
        xmp=_upright_xmp(xmp) if xmp else None,
        dpi=_positive(image.info.get("dpi")),
    )
    return metadata, orientation if orientation in range(1, 9) else 1


def _positive(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    if dpi is None or not all(value > 0 for value in dpi):
        return None
    return float(dpi[0]), float(dpi[1])


def _exif_of_tiff(tags: Image.Exif) -> bytes | None:
    """EXIF block of a TIFF file, without the tags that describe its strips and samples."""
    exif = Image.Exif()
    for tag in DESCRIPTIVE_TAGS:
        if tag in tags:
            exif[tag] = tags[tag]
    for directory in SUB_DIRECTORIES:
        if content := tags.get_ifd(directory):
            exif.get_ifd(directory).update(content)
            exif[directory] = content
    return exif.tobytes() if len(exif) else None


def _upright_exif(exif: bytes) -> bytes:
    """The block with the orientation 1 and without its thumbnail, which shows the blurred picture.

    Only these bytes change: makers' notes hold offsets that a rewritten block would break.
    """
    changed = bytearray(exif if exif.startswith(EXIF_HEADER) else EXIF_HEADER + exif)
    start = len(EXIF_HEADER)
    order = "<" if changed[start : start + 2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(f"{order}I", changed, start + 4)
        (count,) = struct.unpack_from(f"{order}H", changed, start + first)
        for number in range(count):
            place = start + first + 2 + 12 * number
            (tag,) = struct.unpack_from(f"{order}H", changed, place)
            if tag == Base.Orientation:
                struct.pack_into(f"{order}H", changed, place + 8, 1)
        struct.pack_into(f"{order}I", changed, start + first + 2 + 12 * count, 0)
    # A block that ends too early says nothing that could be kept.
    except struct.error:
        return b""
    return bytes(changed)


def _upright_xmp(xmp: bytes) -> bytes:
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[1-8]", rb"\g<1>1", xmp)


def png_chunks(metadata: Metadata) -> bytes:
    """The chunks of a PNG file that hold the metadata; they go behind its header."""
    chunks = b""
    if metadata.icc:
        chunks += _png_chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(metadata.icc))
    if metadata.exif:
        chunks += _png_chunk(b"eXIf", metadata.exif.removeprefix(EXIF_HEADER))
    if metadata.dpi:
        per_metre = [round(value / METRES_PER_INCH) for value in metadata.dpi]
        chunks += _png_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if metadata.xmp:
        chunks += _png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + metadata.xmp)
    return chunks


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_png_chunks(png: bytes, metadata: Metadata) -> bytes:
    """Add the metadata to an encoded PNG file that has none."""
    return png[:PNG_SIGNATURE_AND_HEADER] + png_chunks(metadata) + png[PNG_SIGNATURE_AND_HEADER:]


def tiff_tags(metadata: Metadata) -> list[tuple[int, int, int, Any, bool]]:
    """The metadata as tifffile's ``extratags``, but for the directories that :func:`with_tiff_directories` adds."""
    tags: list[tuple[int, int, int, Any, bool]] = []
    if metadata.icc:
        tags.append((ICC_TAG, DATATYPE.UNDEFINED, len(metadata.icc), metadata.icc, True))
    if metadata.xmp:
        tags.append((XMP_TAG, DATATYPE.BYTE, len(metadata.xmp), metadata.xmp, True))
    exif = _parsed(metadata)
    for tag in DESCRIPTIVE_TAGS:
        if isinstance(value := exif.get(tag), str):
            encoded = value.encode("latin-1", "replace") + b"\x00"
            tags.append((int(tag), DATATYPE.ASCII, len(encoded), encoded, True))
        elif isinstance(value, bytes):
            tags.append((int(tag), DATATYPE.BYTE, len(value), value, True))
    return tags


def with_tiff_directories(tiff: bytes, metadata: Metadata) -> bytes:
    """Add the EXIF and GPS directories to a TIFF file, which tifffile does not write.

    They go behind the end of the file, followed by a new first directory that refers to them.

    Args:
        tiff: A little-endian file of one picture, below 4 GiB.
        metadata: Whose EXIF block holds them.
    """
    exif = _parsed(metadata)
    entries = []
    for tag in SUB_DIRECTORIES:
        if content := exif.get_ifd(tag):
            tiff += b"\x00" * (len(tiff) % 2)
            entries.append(struct.pack("<HHII", tag, DATATYPE.LONG, 1, len(tiff)))
            directory = ImageFileDirectory_v2(prefix=b"II")
            directory.update(content)
            tiff += directory.tobytes(len(tiff))
    if not entries:
        return tiff
    (first,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, first)
    entries += [tiff[place : place + 12] for place in range(first + 2, first + 2 + 12 * count, 12)]
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    tiff += b"\x00" * (len(tiff) % 2)
    directory_bytes = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + directory_bytes


def _parsed(metadata: Metadata) -> Image.Exif:
    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
    return exif
