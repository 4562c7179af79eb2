import numpy as np
import pytest

from macr_plugin.data.synthesis.response import decode, encode

CURVES = ("linear", "encoded", "gamma2.2", "highlights")
LEVELS = np.arange(256, dtype=np.uint8)


def test_srgb_round_trip_is_exact_and_follows_the_standard():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode(decode(levels, "linear"), "linear"), levels)
    # IEC 61966-2-1: half of the light is 188 of 255; 10 of 255 lies on the linear part.
    assert encode(np.float32([0.5]), "linear") == 188
    np.testing.assert_allclose(decode(np.uint8([10]), "linear"), 10 / 255 / 12.92, rtol=1e-6)


@pytest.mark.parametrize("averaging", CURVES)
def test_round_trip_is_exact(averaging):
    light = decode(LEVELS, averaging)
    assert light.dtype == np.float32
    assert light[0] == 0
    assert (np.diff(light) > 0).all()
    np.testing.assert_array_equal(encode(light, averaging), LEVELS)
    assert encode(np.float32([-1, 100]), averaging).tolist() == [0, 255]


def test_half_of_the_light_follows_the_curve():
    half = {name: int(encode(np.float32([0.5]), name)[0]) for name in CURVES}
    assert half == {"linear": 188, "encoded": 128, "gamma2.2": round(255 * 0.5 ** (1 / 2.2)), "highlights": 188}


def test_highlights_are_compressed_and_the_rest_is_not():
    linear, bright = decode(LEVELS, "linear"), decode(LEVELS, "highlights")
    np.testing.assert_array_equal(bright[linear < 0.7], linear[linear < 0.7])
    assert bright[255] == pytest.approx(4)
    # The shoulder begins with the slope of the straight line.
    knee = np.float32(np.linspace(0.69, 0.71, 5))
    steps = np.diff(decode(encode(knee, "highlights"), "linear"))
    assert steps.max() < 0.02
