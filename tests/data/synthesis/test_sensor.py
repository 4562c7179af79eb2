import cv2
import numpy as np
import pytest

from macr_plugin.data.synthesis.response import decode, encode
from macr_plugin.data.synthesis.sensor import Sensor

CURVES = ("linear", "encoded", "gamma2.2", "highlights")


def noisy_values(sensor, value, averaging):
    light = decode(np.full((120, 120, 3), value, np.uint8), averaging)
    return encode(sensor.expose(light, averaging), averaging).astype(float)


@pytest.mark.parametrize("averaging", CURVES)
@pytest.mark.parametrize("kind", ["photon_noise", "read_noise"])
def test_noise_is_given_in_levels_at_mid_grey(kind, averaging):
    values = noisy_values(Sensor(**{kind: 3.0}), 118, averaging)
    assert values.std() == pytest.approx(3, rel=0.05)
    assert values.mean() == pytest.approx(118, abs=0.15)


def test_photon_noise_grows_with_the_root_of_the_light_and_read_noise_does_not():
    dark, bright = (decode(np.full((200, 200, 3), value, np.uint8), "linear") for value in (60, 220))
    for sensor, power in ((Sensor(photon_noise=2.0), 0.5), (Sensor(read_noise=2.0), 0.0)):
        spreads = [(sensor.expose(light, "linear") - light).std() for light in (dark, bright)]
        assert spreads[1] / spreads[0] == pytest.approx((bright[0, 0, 0] / dark[0, 0, 0]) ** power, rel=0.03)


def test_noise_depends_on_its_seed_alone():
    one, again, other = (noisy_values(Sensor(2.0, 0.1, seed), 118, "linear") for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_ideal_sensor_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    light = decode(picture, "linear")
    assert Sensor().expose(light, "linear") is light
    assert Sensor().compress(picture) is picture


def test_jpeg_is_that_of_a_file(tmp_path):
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8), (0, 0), 2)
    cv2.imwrite(str(tmp_path / "80.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    compressed = Sensor(jpeg_quality=80).compress(picture)
    np.testing.assert_array_equal(compressed, cv2.imread(str(tmp_path / "80.jpg")))
    assert not np.array_equal(compressed, picture)
