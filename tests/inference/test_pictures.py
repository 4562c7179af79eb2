"""Every file is read back with another library than the one that wrote it."""

import dataclasses
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from macr_plugin.errors import InputError
from macr_plugin.inference.pictures import Picture, read_picture, write_picture

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'
LOSSLESS = (".png", ".tif", ".bmp", ".webp")
EXIF_TAG, GPS_TAG, ORIENTATION, MAKE, XMP_TAG = 0x8769, 0x8825, 0x0112, 0x010F, 700


def exif_block(orientation=1):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[MAKE] = "Camera"
    exif.get_ifd(EXIF_TAG)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(EXIF_TAG)[0x927C] = b"maker\x00note"
    exif.get_ifd(GPS_TAG).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return exif


def opencv(path):
    """Samples by OpenCV, RGB in front."""
    samples = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    return samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[-1]]]


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_pixels_come_through_unchanged(tmp_path, photo, suffix):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"new/b{suffix}"
    Image.fromarray(photo).save(source, **({"lossless": True} if suffix == ".webp" else {}))
    write_picture(read_picture(source), target)
    assert np.array_equal(opencv(target), photo)
    assert np.array_equal(np.asarray(Image.open(target)), photo)


@pytest.mark.parametrize("brightest", [65535, 255, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_told_by_the_file_however_dark(tmp_path, suffix, channels, brightest):
    samples = np.random.default_rng(0).integers(0, brightest + 1, (20, 30, channels)).astype(np.uint16)
    samples = samples[..., 0] if channels == 1 else samples
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    if suffix == ".png":
        cv2.imwrite(str(source), samples if channels == 1 else samples[..., [2, 1, 0, 3][:channels]])
    else:
        tifffile.imwrite(source, samples, photometric="minisblack" if channels == 1 else "rgb", compression="zlib")
    picture = read_picture(source)
    assert picture.pixels.dtype == np.uint16
    write_picture(picture, target)
    written = opencv(target)
    assert written.dtype == np.uint16
    assert np.array_equal(written, samples)


def test_an_8_bit_file_that_is_dark_or_has_few_bits_stays_8_bit(tmp_path):
    dark = np.random.default_rng(0).integers(0, 2, (20, 30)).astype(np.uint8)
    Image.fromarray(dark * 255).convert("1").save(tmp_path / "bits.png")
    picture = read_picture(tmp_path / "bits.png")
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels[..., 1], dark * 255)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_upright_and_the_tag_is_reset(tmp_path, photo, suffix, orientation):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(photo).save(source, exif=exif_block(orientation), **options)
    write_picture(read_picture(source), target)
    # OpenCV turns a PNG file as its tag says; it cannot do so with every TIFF file.
    Image.fromarray(photo).save(tmp_path / "reference.png", exif=exif_block(orientation))
    expected, written = (cv2.imread(str(path)).astype(int) for path in (tmp_path / "reference.png", target))
    assert expected.shape == written.shape
    assert np.abs(expected - written).max() <= (6 if suffix == ".jpg" else 0)
    assert Image.open(target).getexif().get(ORIENTATION, 1) == 1


def test_16_bit_tiff_is_turned_upright(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[(ORIENTATION, 3, 1, 6, True)])
    write_picture(read_picture(tmp_path / "a.tif"), tmp_path / "b.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), np.rot90(samples, -1))


@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.webp", "b.tif"])
@pytest.mark.parametrize("source", ["a.png", "a.jpg", "a.webp", "a.tif", "deep.png"])
def test_exif_profile_and_xmp_come_through(tmp_path, photo, source, target):
    path = tmp_path / source
    if source == "deep.png":
        Image.fromarray(photo).save(tmp_path / "a.png", exif=exif_block(6), icc_profile=PROFILE, dpi=(300, 300))
        picture = read_picture(tmp_path / "a.png")
        write_picture(Picture(picture.pixels.astype(np.uint16) * 257, metadata=picture.metadata), path)
    else:
        information, exif = PngImagePlugin.PngInfo(), exif_block(6)
        information.add_itxt("XML:com.adobe.xmp", XMP.decode())
        more = {"pnginfo": information} if source == "a.png" else {"xmp": XMP}
        if source == "a.tif":
            # Pillow writes directories into a TIFF file that are set as such.
            exif[XMP_TAG], exif[EXIF_TAG], exif[GPS_TAG] = XMP, exif.get_ifd(EXIF_TAG), exif.get_ifd(GPS_TAG)
            more = {}
        Image.fromarray(photo).save(path, exif=exif, icc_profile=PROFILE, dpi=(300, 300), **more)
    write_picture(read_picture(path), tmp_path / target)
    with Image.open(tmp_path / target) as written:
        assert written.info["icc_profile"] == PROFILE
        exif = written.getexif()
        assert exif[MAKE] == "Camera"
        assert exif.get(ORIENTATION, 1) == 1
        assert exif.get_ifd(EXIF_TAG)[0x9003] == "2026:01:02 03:04:05"
        assert exif.get_ifd(EXIF_TAG)[0x927C] == b"maker\x00note"
        assert exif.get_ifd(GPS_TAG)[2] == (1.0, 2.0, 3.0)
        if source != "deep.png":
            xmp = written.info.get("xmp") or written.info["XML:com.adobe.xmp"].encode()
            assert xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')
        if ".webp" not in source + target:
            assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_16_bit_tiff_keeps_profile_and_exif_for_other_readers(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif_block(), icc_profile=PROFILE)
    metadata = read_picture(tmp_path / "a.jpg").metadata
    write_picture(Picture(photo.astype(np.uint16) * 257, metadata=metadata), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        tags = written.pages[0].tags
        assert tags["InterColorProfile"].value == PROFILE
        assert tags["ExifTag"].value["DateTimeOriginal"] == "2026:01:02 03:04:05"
        codes = [tag.code for tag in tags]
        assert codes == sorted(codes)
    assert np.array_equal(opencv(tmp_path / "b.tif"), photo.astype(np.uint16) * 257)
    again = read_picture(tmp_path / "b.tif")
    write_picture(again, tmp_path / "c.tif")
    assert Image.open(tmp_path / "c.tif").getexif().get_ifd(GPS_TAG)[1] == "N"


@pytest.mark.parametrize(("quality", "subsampling"), [(35, 2), (90, 1), (98, 0)])
def test_jpeg_keeps_tables_and_subsampling(tmp_path, photo, quality, subsampling):
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling, progressive=True)
    write_picture(read_picture(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    source, written = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "b.jpg")
    assert written.quantization == source.quantization
    assert JpegImagePlugin.get_sampling(written) == subsampling
    assert written.info["progressive"]


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_stays_as_it_was(tmp_path, photo, suffix, mode):
    if mode == "LA" and suffix == ".bmp":
        pytest.skip("BMP has no grey with alpha")
    alpha = np.random.default_rng(0).integers(0, 256, photo.shape[:2]).astype(np.uint8)
    image = Image.fromarray(photo).convert("L" if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    if suffix == ".bmp":
        cv2.imwrite(str(tmp_path / "a.bmp"), np.asarray(image)[..., [2, 1, 0, 3]])
    else:
        image.save(tmp_path / f"a{suffix}", **options)
    picture = read_picture(tmp_path / f"a{suffix}")
    darker = dataclasses.replace(picture, pixels=picture.pixels // 2)
    write_picture(darker, tmp_path / f"b{suffix}")
    # OpenCV multiplies the colours of a TIFF file by its alpha, and has no grey with alpha.
    by_opencv = mode == "RGBA" and suffix != ".tif"
    written = (opencv if by_opencv else lambda path: np.asarray(Image.open(path)))(tmp_path / f"b{suffix}")
    assert np.array_equal(written[..., -1], alpha)
    assert np.array_equal(written[..., 0], np.asarray(image)[..., 0] // 2)


def raw_png(colour_type, samples, transparency=b""):
    """A PNG file of 16 bit, written by hand: neither Pillow nor OpenCV writes all kinds."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    chunks += [chunk(b"tRNS", transparency)] if transparency else []
    chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


DEEP = np.random.default_rng(0).integers(0, 65536, (20, 30, 4)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["grey with alpha", "transparent grey", "transparent colour"])
def test_transparency_of_16_bit_stays(tmp_path, kind, suffix):
    colour = DEEP[..., :3] if "colour" in kind else DEEP[..., :1].repeat(3, axis=-1)
    if kind == "grey with alpha":
        alpha, content = DEEP[..., 3], raw_png(4, DEEP[..., [0, 3]])
    else:
        alpha = np.where((colour == colour[0, 0]).all(axis=-1), 0, 65535)
        stored, colour_type = (colour, 2) if "colour" in kind else (colour[..., :1], 0)
        content = raw_png(colour_type, stored, stored[0, 0].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(content)
    picture = read_picture(tmp_path / "a.png")
    assert picture.grey == ("grey" in kind)
    write_picture(picture, tmp_path / f"b{suffix}")
    written = opencv(tmp_path / "b.png") if suffix == ".png" else tifffile.imread(tmp_path / "b.tif")
    assert np.array_equal(written, np.dstack([colour, alpha]))
    assert np.array_equal(read_picture(tmp_path / f"b{suffix}").alpha, alpha)


@pytest.mark.parametrize(
    ("bits", "options"),
    [
        *((bits, {"compression": "zlib", "predictor": 2, "byteorder": ">"}) for bits in (8, 16)),
        *((bits, {"tile": (16, 16)}) for bits in (8, 16)),
        *((bits, {"rowsperstrip": 7, "bigtiff": True}) for bits in (8, 16)),
        (8, {"planarconfig": "separate"}),
    ],
    ids=str,
)
def test_tiff_files_of_other_layouts(tmp_path, bits, options):
    samples = DEEP[..., :3] if bits == 16 else (DEEP[..., :3] >> 8).astype(np.uint8)
    stored = samples.transpose(2, 0, 1) if "planarconfig" in options else samples
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    write_picture(read_picture(tmp_path / "a.tif"), tmp_path / "b.png")
    assert np.array_equal(opencv(tmp_path / "b.png"), samples)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_the_fourth_channel_of_a_tiff_file(tmp_path, bits, extra):
    white = 2**bits - 1
    colour, alpha = DEEP[..., :3] / 65535, np.maximum(DEEP[..., 3:] / 65535, 0.2)
    stored = np.concatenate([colour * alpha if extra == "assocalpha" else colour, alpha], axis=-1)
    stored = (white * stored).round().astype(np.uint16 if bits == 16 else np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=[extra])
    picture = read_picture(tmp_path / "a.tif")
    assert np.abs(picture.pixels / white - colour).max() <= (4 if extra == "assocalpha" else 0.6) / white
    if extra == "unspecified":
        assert picture.alpha is None
        assert picture.notes == ["a channel that is neither colour nor alpha was left out"]
    else:
        assert np.array_equal(picture.alpha, stored[..., 3])
    write_picture(picture, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        assert written.pages[0].extrasamples == (() if extra == "unspecified" else (2,))
        assert np.array_equal(written.asarray()[..., :3], picture.pixels)


def test_grey_palette_and_colour_key(tmp_path, photo):
    image = Image.fromarray(photo)
    image.convert("L").save(tmp_path / "grey.jpg", quality=95)
    write_picture(read_picture(tmp_path / "grey.jpg"), tmp_path / "grey_out.jpg")
    assert opencv(tmp_path / "grey_out.jpg").ndim == 2
    palette = image.quantize(64)
    palette.save(tmp_path / "palette.png", transparency=3)
    picture = read_picture(tmp_path / "palette.png")
    assert np.array_equal(picture.pixels, np.asarray(palette.convert("RGB")))
    assert np.array_equal(picture.alpha == 0, np.asarray(palette) == 3)
    image.save(tmp_path / "key.png", transparency=tuple(int(value) for value in photo[3, 4]))
    assert read_picture(tmp_path / "key.png").alpha[3, 4] == 0


def test_cmyk_is_converted_and_said(tmp_path, photo):
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.notes == ["CMYK was converted to sRGB"]
    write_picture(picture, tmp_path / "b.jpg")
    assert np.abs(opencv(tmp_path / "b.jpg").astype(int) - photo).mean() < 3
    assert "sRGB" in ImageCms.getProfileName(io.BytesIO(Image.open(tmp_path / "b.jpg").info["icc_profile"]))


def test_what_jpeg_cannot_hold(tmp_path, photo):
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    write_picture(Picture(photo, alpha), tmp_path / "opaque.jpg")
    alpha[0, 0] = 254
    with pytest.raises(InputError, match=r"clear.jpg cannot keep the alpha channel: choose png or webp"):
        write_picture(Picture(photo, alpha), tmp_path / "clear.jpg")
    assert not (tmp_path / "clear.jpg").exists()
    deep = Picture(photo.astype(np.uint16) * 257)
    write_picture(deep, tmp_path / "deep.webp")
    assert deep.notes == ["16 bit became 8 bit, since WEBP has no more"]
    assert np.array_equal(opencv(tmp_path / "deep.webp"), photo)


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def bad_files(photo):
    image = Image.fromarray(photo)
    deep = cv2.imencode(".png", photo.astype(np.uint16) * 257)[1].tobytes()
    png, jpeg = saved(image, format="PNG"), saved(image, format="JPEG")

    def tiff(samples, **options):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, samples, **options)
        return buffer.getvalue()

    whole = tiff(photo, photometric="rgb")
    planes = tiff(photo.transpose(2, 0, 1).astype(np.uint16), photometric="rgb", planarconfig="separate")
    pages, moving_png, moving_webp = (
        saved(image, format=one, save_all=True, append_images=[image.rotate(9)]) for one in ("TIFF", "PNG", "WEBP")
    )
    return {
        "empty.jpg": (b"", "is empty: copy it again"),
        "text.png": (b"hello", "is not a picture that can be read: expected PNG, JPEG"),
        "cut.png": (png[: len(png) // 2], "is damaged or incomplete"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "is damaged or incomplete"),
        "cut_deep.png": (deep[: len(deep) // 2], "is damaged or incomplete"),
        "header.png": (png[:20], "cut off|not a picture|damaged or incomplete"),
        "flipped.png": (png[:80] + b"\xff" + png[81:], "is damaged or incomplete"),
        "other.gif": (saved(image.quantize(8), format="GIF"), "is in the format GIF: save it as PNG"),
        "float.tif": (tiff(photo[..., 0].astype(np.float32)), "save 8 or 16 bits"),
        "float_rgb.tif": (
            tiff(photo.astype(np.float32), photometric="rgb"),
            "of a kind that cannot be read: save it as",
        ),
        "half.tif": (tiff(photo.astype(np.float16), photometric="rgb"), "of a kind that cannot be read: save"),
        "signed.tif": (tiff(photo[..., 0].astype(np.int16)), "save 8 or 16 bits"),
        "long.tif": (tiff(photo[..., 0].astype(np.uint32)), "save 8 or 16 bits"),
        "planes.tif": (planes, "has 16 bits in a plane for each colour: save it with interleaved colours"),
        "white.tif": (tiff(photo[..., 0].astype(np.uint16), photometric="miniswhite"), "neither grey nor RGB: save"),
        "lab.tif": (saved(image.convert("LAB"), format="TIFF"), "has the colour mode LAB: save it as RGB"),
        "cut.tif": (whole[: len(whole) // 2], "damaged"),
        "directory.tif": (whole[:9], "damaged"),
        "cut.webp": (saved(image, format="WEBP")[:200], "damaged or incomplete"),
        "cut.bmp": (saved(image, format="BMP")[:2000], "damaged or incomplete"),
        "moving.png": (moving_png, "holds 2 pictures: save each"),
        "moving.webp": (moving_webp, "holds 2 pictures: save each"),
        "icon.bmp": (saved(image, format="ICO"), "is in the format ICO: save it as PNG"),
        "pages.tif": (pages, "holds 2 pictures: save each"),
    }


@pytest.mark.parametrize("name", list(bad_files(np.zeros((8, 8, 3), np.uint8))))
def test_bad_files_are_named_in_one_line(tmp_path, photo, name):
    content, message = bad_files(photo)[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_picture(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_name_without_a_format(tmp_path, photo):
    with pytest.raises(InputError, match=r"nowhere\.png"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"has no suffix of a picture: expected \.png"):
        write_picture(Picture(photo), tmp_path / "x.gif")
    with pytest.raises(InputError, match=r"wide.webp cannot be encoded .*: choose png"):
        write_picture(Picture(np.zeros((1, 30000, 3), np.uint8)), tmp_path / "wide.webp")
