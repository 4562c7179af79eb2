from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from macr_plugin.data.synthesis.blur_model import REALISTIC, SETTINGS, BlurModel, blur_model
from macr_plugin.data.synthesis.paths import draw_camera_path, generator_for, subframe_count
from macr_plugin.errors import InputError

SIZE = (40, 60)


def photo(_):
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def shots(model, number=60):
    drawn = []
    for index in range(number):
        generator = generator_for(0, str(index))
        drawn.append(model.draw_shot(generator, model.draw_extent(generator), SIZE, photo))
    return drawn


def extents(model, number=4000):
    generator = np.random.default_rng(0)
    return np.array([model.draw_extent(generator) for _ in range(number)])


def test_default_is_one_path_for_the_whole_picture():
    generator = generator_for(3, "a")
    extent = BlurModel().draw_extent(generator)
    shot = BlurModel().draw_shot(generator, extent, SIZE, photo)
    assert 4 <= shot.path.extent <= 12
    assert shot.averaging == "linear"
    assert shot.path.turn is shot.path.zoom is shot.inverse_depth is shot.moving is shot.sensor.jpeg_quality is None
    assert shot.sensor.photon_noise == shot.sensor.read_noise == 0
    np.testing.assert_array_equal(shot.path.translation, shot.path.shift)


def test_even_extents():
    drawn = extents(BlurModel((2, 10)))
    assert drawn.min() >= 2
    assert drawn.max() <= 10
    np.testing.assert_allclose(np.quantile(drawn, (0.25, 0.5, 0.75)), (4, 6, 8), atol=0.25)


def test_hand_held_extents_are_log_normal_with_the_median_asked_for():
    drawn = extents(BlurModel((0, 40), median=10))
    assert np.median(drawn) == pytest.approx(10, rel=0.05)
    assert drawn.max() == 40
    inside = np.log(drawn[drawn < 40] / 10)
    # Symmetric about the median in the logarithm.
    assert np.quantile(inside, 0.8) == pytest.approx(-np.quantile(inside, 0.2), rel=0.1)


def test_share_of_sharp_pairs():
    drawn = extents(BlurModel((3, 10), sharp_share=0.25))
    assert (drawn == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert drawn[drawn > 0].min() >= 3


def test_realistic_draws_everything():
    drawn = shots(REALISTIC, 150)
    assert {shot.averaging for shot in drawn} == {"linear", "encoded", "gamma2.2", "highlights"}
    assert sum(shot.inverse_depth is None for shot in drawn) == pytest.approx(150 / 4, abs=20)
    assert sum(shot.path.extent == 0 for shot in drawn) == pytest.approx(15, abs=12)
    assert sum(shot.moving is not None for shot in drawn) == pytest.approx(150 * 0.27, abs=20)
    assert sum(shot.sensor.jpeg_quality is not None for shot in drawn) == pytest.approx(30, abs=18)
    assert {80 <= shot.sensor.jpeg_quality <= 98 for shot in drawn if shot.sensor.jpeg_quality} == {True}
    assert max(shot.sensor.photon_noise for shot in drawn) <= 2
    assert all(shot.moving is None for shot in drawn if shot.path.extent == 0)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_turn_is_a_part_of_the_path_that_is_centred_like_it(share):
    for shot in shots(BlurModel((5, 20), turn_share=(share, share), depth=("slanted",)), 20):
        path = shot.path
        if share == 0:
            assert path.turn is None
            continue
        middle = len(path.turn) // 2
        np.testing.assert_array_equal(path.turn[middle], 0)
        np.testing.assert_allclose(path.turn.mean(axis=0), 0, atol=1e-9)
        # What is at any distance moves no further than what is nearest may.
        for near in (0, 0.5, 1):
            places = path.turn + near * path.translation
            assert np.linalg.norm(places, axis=1).max() <= path.extent + 1e-9
        if share == 1:
            np.testing.assert_allclose(path.translation, 0, atol=1e-9)
            assert shot.inverse_depth is None


def test_subframes_follow_the_longest_path():
    for shot in shots(BlurModel((0, 40), median=4, object_share=1), 40):
        longest = max(shot.path.extent, np.ptp(shot.moving.shift, axis=0).max() if shot.moving else 0)
        assert len(shot.path.shift) >= subframe_count(longest, 3)
        assert len(shot.path.shift) % 2 == 1


def test_one_setting_changes_nothing_that_the_others_give():
    plain = shots(replace(REALISTIC, object_share=0), 12)
    changes = {"jpeg_share": 1, "photon_noise": (4, 9), "depth": ("smooth",), "averaging": ("linear",)}
    for setting, value in changes.items():
        for before, after in zip(plain, shots(replace(REALISTIC, object_share=0, **{setting: value}), 12), strict=True):
            np.testing.assert_array_equal(before.path.shift, after.path.shift)
            np.testing.assert_array_equal(before.path.turn, after.path.turn)
            assert before.sensor.noise_seed == after.sensor.noise_seed
    for index, before in enumerate(plain):
        generator = generator_for(0, str(index))
        extent = REALISTIC.draw_extent(generator)
        generator.integers(2**63, size=5)
        np.testing.assert_array_equal(
            draw_camera_path(generator, extent, len(before.path.shift)).shift, before.path.shift
        )


def test_objects_are_cut_outs_of_a_folder(tmp_path):
    cut_out = np.full((30, 20, 4), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "thing.png"), cut_out)
    model = blur_model({"object_folder": tmp_path, "object_share": 1})
    drawn = shots(model, 10)
    for shot in drawn:
        assert (shot.moving.cut_out == 200).all()
        assert 4 <= np.linalg.norm(np.ptp(shot.moving.shift, axis=0)) <= 12 * 2**0.5
        assert -15 < shot.moving.top < SIZE[0]
    assert len({(shot.moving.top, shot.moving.left) for shot in drawn}) > 5


def test_given_settings_go_before_the_realistic_ones():
    assert blur_model({}) == BlurModel()
    assert blur_model({}, realistic=True) == REALISTIC
    model = blur_model({"averaging": "encoded", "depth": ["flat", "ground"], "zoom": 0, "extent": [1, 2]}, True)
    assert model == replace(REALISTIC, averaging=("encoded",), depth=("flat", "ground"), zoom=0, extent=(1, 2))
    assert blur_model({"median": None}, realistic=True).median is None
    assert tuple(attribute.name for attribute in fields(BlurModel)) == SETTINGS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extent": (5, 4)}, r"--extent \(5, 4\) is no range"),
        ({"extent": (-1, 4)}, "is no range"),
        ({"extent": (0, float("nan"))}, "is no range"),
        ({"extent": (0, float("inf"))}, "is no range"),
        ({"median": -1}, "--median is -1: give a number from 0"),
        ({"median": "ten"}, "--median is ten: give a number"),
        ({"sharp_share": 1.5}, "--sharp_share is 1.5: give a number from 0 to 1"),
        ({"object_share": float("nan")}, "--object_share is nan"),
        ({"averaging": "srgb"}, "--averaging is srgb: choose linear or encoded or gamma2.2 or highlights"),
        ({"averaging": []}, "--averaging is empty"),
        ({"averaging": 3}, "--averaging is 3: choose linear"),
        ({"depth": ["flat", "deep"]}, "--depth is deep: choose flat or ground or slanted or smooth"),
        ({"turn_share": (0.5, 1.1)}, r"--turn_share \(0.5, 1.1\) is no range: give two numbers from 0 to 1"),
        ({"turn_share": 0.5}, r"--turn_share 0.5 is no range"),
        ({"photon_noise": (2, 1)}, "the smaller one first"),
        ({"jpeg_quality": (0, 101)}, "from 1 to 100"),
        ({"jpeg_quality": (0, 90)}, "from 1 to 100"),
        ({"jpeg_quality": (80.5, 90)}, "whole numbers"),
        ({"zoom": 0.5}, "--zoom is 0.5: give a number from 0 to 0.01"),
        ({"zoom": True}, "--zoom is True"),
        ({"object_folder": "nowhere"}, "nowhere is not a folder"),
    ],
)
def test_unusable_settings(given, message):
    with pytest.raises(InputError, match=message):
        blur_model(given, name="--{}".format)
