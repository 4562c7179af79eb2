"""What the camera adds to a blurred picture after the exposure: noise and JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from macr_plugin.data.synthesis.response import Averaging, response_table

# Noise is given in levels of 255 at this value.
MID_GREY = 118


@dataclass(frozen=True)
class Sensor:
    """Noise and compression of one picture.

    Attributes:
        photon_noise: Standard deviation of the noise that grows with the square root of the light, in levels of 255 at
            mid-grey.
        read_noise: Standard deviation of the noise that is the same at any light, in levels of 255 at mid-grey. Dark
            places show it more.
        noise_seed: What the noise is drawn from.
        jpeg_quality: Quality of the compression; None for none.
    """

    photon_noise: float = 0
    read_noise: float = 0
    noise_seed: int = 0
    jpeg_quality: int | None = None

    def expose(self, light: np.ndarray, averaging: Averaging) -> np.ndarray:
        """Add noise.

        Args:
            light: float32 array (height, width, 3), at least 0.
            averaging: What the light is measured in.

        Returns:
            float32 array of the same shape.
        """
        if self.photon_noise == self.read_noise == 0:
            return light
        noise = np.random.default_rng(self.noise_seed).standard_normal(light.shape, np.float32)
        photon, read = noise_variances(self.photon_noise, self.read_noise, averaging)
        return light + noise * np.sqrt(photon * light.clip(0) + read, dtype=np.float32)

    def compress(self, picture: np.ndarray) -> np.ndarray:
        """Compress and decompress a picture.

        Args:
            picture: uint8 array (height, width, 3), BGR.

        Returns:
            uint8 array of the same shape, BGR.
        """
        if self.jpeg_quality is None:
            return picture
        file = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])[1]
        return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))


def noise_variances(photon_noise: float, read_noise: float, averaging: Averaging) -> tuple[float, float]:
    """Turn levels at mid-grey into variances of light.

    Args:
        photon_noise: See :class:`Sensor`.
        read_noise: See :class:`Sensor`.
        averaging: What the light is measured in.

    Returns:
        The variance for each unit of light, and the one that is always there.
    """
    table = response_table(averaging)
    level = float(table[MID_GREY + 1] - table[MID_GREY - 1]) / 2
    return (photon_noise * level) ** 2 / float(table[MID_GREY]), (read_noise * level) ** 2
