"""Decodes 16 bit through OpenCV, where it is right: Pillow has 16 bit for grey alone."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
from PIL import Image, TiffImagePlugin

from macr_plugin.errors import InputError

#: Places of the bit depth and of the kind of colour in a PNG file's header.
PNG_BIT_DEPTH, PNG_COLOUR_TYPE = 24, 25
GREY_WITH_ALPHA = 4
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 262, 284, 338, 339
#: Of TIFF's extra samples: no alpha, and alpha by which the colours are multiplied.
NO_ALPHA, PREMULTIPLIED = 0, 1
#: What OpenCV decodes as it is: black is zero, and RGB.
PLAIN_PHOTOMETRICS = (1, 2)
WHITE = 65535


def bits_per_sample(image: Image.Image, data: bytes, path: Path) -> int:
    """Read how many bits a sample has off the header of a file, never off its brightest pixel.

    Args:
        image: The file as Pillow has opened it.
        data: Its content.
        path: Its name, for messages.

    Returns:
        8, also for fewer, or 16.

    Raises:
        InputError: If it has samples of another kind, or 16 bits in a way that :func:`decode_16_bit` would get wrong.
    """
    if image.format == "PNG":
        bits = data[PNG_BIT_DEPTH]
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        of_samples = set(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
        bits = max(of_samples)
        sample_format = set(image.tag_v2.get(SAMPLE_FORMAT, (1,)))
        if bits > 16 or len(of_samples) > 1 or sample_format != {1}:
            raise InputError(f"{path} has samples of {bits} bits that are no whole numbers from 0: save 8 or 16 bits")
        if bits == 16 and image.tag_v2.get(PHOTOMETRIC) not in PLAIN_PHOTOMETRICS:
            raise InputError(f"{path} has 16 bits and is neither grey nor RGB: save it as RGB")
        # OpenCV would take one plane for interleaved colours.
        if bits == 16 and len(image.getbands()) > 1 and image.tag_v2.get(PLANAR, 1) != 1:
            raise InputError(f"{path} has 16 bits in a plane for each colour: save it with interleaved colours")
    else:
        bits = 8
    return 16 if bits == 16 else 8


def decode_16_bit(image: Image.Image, data: bytes, path: Path) -> np.ndarray:
    """Decode a PNG or TIFF file of 16 bit.

    Args:
        image: The file as Pillow has opened it.
        data: Its content.
        path: Its name, for messages.

    Returns:
        Shape (H, W) or (H, W, C), uint16, grey or RGB in front and alpha behind; TIFF files upright.

    Raises:
        InputError: If OpenCV cannot decode it.
    """
    samples = mmcv.imfrombytes(data, flag="unchanged", backend="cv2")
    if samples is None or samples.dtype != np.uint16:
        raise InputError(f"{path} cannot be decoded as 16 bit: save it as a PNG or an uncompressed TIFF file")
    if samples.ndim == 2:
        # OpenCV knows a transparent colour, but no transparent grey.
        key = image.info.get("transparency")
        return samples if key is None else np.dstack([samples, np.where(samples == key, 0, WHITE).astype(np.uint16)])
    samples = samples[..., [2, 1, 0, 3][: samples.shape[-1]]]
    if image.format == "PNG":
        # OpenCV decodes grey with alpha as colour with alpha.
        return samples[..., [0, 3]] if data[PNG_COLOUR_TYPE] == GREY_WITH_ALPHA else samples
    extra = image.tag_v2.get(EXTRA_SAMPLES, ())  # type: ignore[attr-defined]
    if NO_ALPHA in extra:
        return samples[..., :3]
    return _unmultiplied(samples) if PREMULTIPLIED in extra else samples


def _unmultiplied(samples: np.ndarray) -> np.ndarray:
    """Colours as they are without their alpha, (H, W, 4) uint16, as Pillow gives them in 8 bit."""
    alpha = np.maximum(samples[..., 3:].astype(np.float64), 1)
    colour = np.minimum(np.round(samples[..., :3] * (WHITE / alpha)), WHITE)
    return np.dstack([colour, samples[..., 3]]).astype(np.uint16)
