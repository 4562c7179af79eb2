import json
import shutil
import struct
import subprocess
import sys
import time
from fractions import Fraction

import mmcv
import numpy as np
import pytest

from macr_plugin import Deblurrer
from macr_plugin.cli import main
from macr_plugin.errors import InputError
from macr_plugin.inference.video import deblur_video

av = pytest.importorskip("av")
FFPROBE = shutil.which("ffprobe")

QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)


def picture(number, height, width):
    """A soft pattern that moves, so that coding it twice hardly changes it."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 2 * number) / 9 + phase) * np.cos(y / 7 - phase) for phase in (0, 0.2, 0.4)]
    return (127 + 90 * np.stack(waves, -1)).astype(np.uint8)


def write_video(path, stamps, size=(48, 64), sound=None, matrix=None, subtitles=(), codec="libx264", fmt="yuv420p"):
    """Frames at ``stamps`` in milliseconds, sound in seconds, subtitles as (start, text) in milliseconds."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=25)
        video.height, video.width = size
        video.pix_fmt, video.codec_context.time_base = fmt, Fraction(1, 1000)
        if matrix:
            video.set_display_matrix(matrix)
        audio = file.add_stream("aac", rate=44100) if sound else None
        text = file.add_mux_stream("mov_text" if path.suffix == ".mp4" else "subrip") if subtitles else None
        if sound:
            _write_sound(file, audio, sound)
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode())
        for start, words in subtitles:
            encoded = words.encode()
            packet = av.Packet(struct.pack(">H", len(encoded)) + encoded if path.suffix == ".mp4" else encoded)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = 500
            file.mux(packet)
    return path


def _write_sound(file, stream, seconds):
    rate = 44100
    samples = np.sin(np.arange(int(seconds * rate)) * 0.05).astype(np.float32)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(np.stack([samples[start : start + 1024]] * 2), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def packets(path, kind):
    with av.open(str(path)) as file:
        stream = next(one for one in file.streams if one.type == kind)
        return [(float(one.pts * one.time_base), bytes(one)) for one in file.demux(stream) if one.size]


def frames(path):
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


def lightness(pixels):
    return pixels @ np.array([0.299, 0.587, 0.114])


def duration(path):
    with av.open(str(path)) as file:
        return file.duration / 1e6


def same(pixels):
    return pixels


EVEN = [40 * number for number in range(100)]


def test_a_hundred_frames_with_sound(tmp_path):
    source = write_video(tmp_path / "a.mp4", EVEN, sound=4, subtitles=[(0, "one"), (1000, "two")], matrix=QUARTER_TURN)
    target, seen = tmp_path / "deep" / "b.mp4", []
    notes = deblur_video(source, target, lambda pixels: 255 - pixels, lambda done, total: seen.append((done, total)))
    assert notes == []
    assert seen == [(number, 100) for number in range(1, 101)]
    before, after = frames(source), frames(target)
    assert len(before) == len(after) == 100
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    for (_, blurred), (_, restored) in zip(before, after, strict=True):
        # A frame later or earlier would be 10 off.
        assert np.abs(255 - blurred.astype(int) - restored).mean() < 3
    assert abs(duration(target) - duration(source)) < 0.04
    assert packets(target, "audio") == packets(source, "audio")
    assert packets(target, "subtitle") == packets(source, "subtitle")
    with av.open(str(target)) as file:
        stream = file.streams.video[0]
        assert (stream.average_rate, stream.codec_context.name) == (25, "h264")
        assert display_matrix(next(file.decode(video=0))) == QUARTER_TURN
    assert [one.name for one in (tmp_path / "deep").iterdir()] == ["b.mp4"]


@pytest.mark.skipif(FFPROBE is None, reason="ffprobe is not installed")
def test_ffprobe_sees_the_same_streams(tmp_path):
    source = write_video(tmp_path / "a.mp4", EVEN[:12], sound=0.5, matrix=QUARTER_TURN)
    deblur_video(source, tmp_path / "b.mp4", same)
    command = [FFPROBE, "-v", "error", "-count_frames", "-show_streams", "-of", "json"]
    seen = [
        json.loads(subprocess.run([*command, tmp_path / name], capture_output=True, check=True).stdout)["streams"]
        for name in ("a.mp4", "b.mp4")
    ]
    for key in ("width", "height", "r_frame_rate", "avg_frame_rate", "nb_read_frames", "duration", "pix_fmt"):
        assert seen[0][0][key] == seen[1][0][key], key
    assert seen[0][0]["side_data_list"] == seen[1][0]["side_data_list"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"])
def test_frames_stamps_and_sizes_in_every_container(tmp_path, suffix):
    # AVI has one rate for all frames.
    stamps = EVEN[:9] if suffix == ".avi" else [0, 40, 55, 100, 300, 310, 440, 800, 1200]
    source = write_video(tmp_path / "a.mkv", stamps)
    target = tmp_path / f"b{suffix}"
    deblur_video(source, target, same)
    before, after = frames(source), frames(target)
    assert len(after) == 9
    # A transport stream begins later.
    shift = after[0][0] if suffix == ".ts" else 0
    # AVI holds no stamps: FFmpeg's reader makes them up.
    if suffix != ".avi":
        assert [time - shift for time, _ in after] == pytest.approx([time for time, _ in before], abs=2e-3)
    assert all(np.abs(a.astype(int) - b).mean() < 2 for (_, a), (_, b) in zip(before, after, strict=True))


def test_the_rotation_survives_matroska(tmp_path):
    source = write_video(tmp_path / "a.mp4", EVEN[:3], matrix=QUARTER_TURN)
    assert deblur_video(source, tmp_path / "b.mkv", same) == []
    with av.open(str(tmp_path / "b.mkv")) as file, av.open(str(source)) as first:
        assert next(file.decode(video=0)).rotation == next(first.decode(video=0)).rotation != 0


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (47, 63)])
def test_odd_sizes_are_kept(tmp_path, size):
    source = write_video(tmp_path / "a.mkv", EVEN[:3], size, codec="ffv1")
    for name in ("b.mp4", "b.webm"):
        deblur_video(source, tmp_path / name, same)
        assert [pixels.shape for _, pixels in frames(tmp_path / name)] == [(*size, 3)] * 3


@pytest.mark.parametrize(
    ("stored", "kept"), [("yuv422p", "yuv422p"), ("yuv444p", "yuv444p"), ("yuv420p10le", "yuv420p")]
)
def test_pixel_formats(tmp_path, stored, kept):
    source = write_video(tmp_path / "a.mkv", EVEN[:3], fmt=stored)
    notes = deblur_video(source, tmp_path / "b.mkv", same)
    assert notes == (["10 bits a colour are written as 8"] if "10" in stored else [])
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.streams.video[0].pix_fmt == kept


@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (1, 2, 1, 1), (9, 1, 9, 16), (10, 1, 9, 14), (5, 1, 5, 6)])
def test_colour_tags_and_colours_stay(tmp_path, tags):
    source, target = tmp_path / "a.mkv", tmp_path / "b.mkv"
    with av.open(str(source), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        for number in range(3):
            planes = picture(number, 48, 64).transpose(2, 0, 1) // 2 + 60
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), "yuv444p")
            frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    deblur_video(source, target, same)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        for a, b in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert (b.colorspace, b.color_range, b.color_primaries, b.color_trc) == tags
            # The stored values themselves: no matrix and no range comes into it.
            assert np.abs(a.to_ndarray().astype(int) - b.to_ndarray()).mean() < 1.5


def failing(number):
    seen = iter(range(1, 1000))

    def restore(pixels):
        if next(seen) == number:
            raise RuntimeError("out of\nmemory")
        return pixels

    return restore


def test_a_frame_that_fails_stops_the_file_with_its_number(tmp_path):
    source = write_video(tmp_path / "a.mp4", EVEN[:30])
    with pytest.raises(InputError, match=r"a.mp4: frame 17 could not be restored: out of memory$"):
        deblur_video(source, tmp_path / "b.mp4", failing(17))
    with pytest.raises(InputError, match=r"a.mp4: frame 1 came back as uint8 \(24, 64, 3\)"):
        deblur_video(source, tmp_path / "b.mp4", lambda pixels: pixels[::2])
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]


def test_a_run_that_was_killed_starts_over_and_says_so(tmp_path):
    source, target = write_video(tmp_path / "a.mp4", EVEN), tmp_path / "b.mp4"
    killed = (
        "import itertools, os, signal, pathlib, sys; from macr_plugin.inference.video import deblur_video\n"
        "count = itertools.count()\n"
        "restore = lambda x: os.kill(os.getpid(), signal.SIGKILL) if next(count) == 60 else x\n"
        "deblur_video(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), restore)\n"
    )
    assert subprocess.run([sys.executable, "-c", killed, source, target], check=False).returncode < 0
    assert not target.exists()
    assert deblur_video(source, target, same) == ["a run that was killed had begun it: started over"]
    assert len(frames(target)) == 100
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_damaged_frame_ends_mmcv_s_reader_without_a_word_and_ours_with_its_number(tmp_path):
    """Why videos are not read through ``mmcv.VideoReader``: frames after the first damaged one would be lost."""
    source = write_video(tmp_path / "a.mkv", EVEN, codec="mjpeg", fmt="yuvj420p")
    with av.open(str(source)) as file:
        damaged = [packet for packet in file.demux(video=0) if packet.size][50]
        place, size = damaged.pos, damaged.size
    data = source.read_bytes()
    start = data.index(bytes(damaged), place)
    source.write_bytes(data[:start] + bytes(size) + data[start + size :])
    assert len(list(mmcv.VideoReader(str(source)))) == 50
    with pytest.raises(InputError, match=r"a.mkv: frame 51 cannot be decoded .*: repair or convert the file first"):
        deblur_video(source, tmp_path / "b.mkv", same)
    assert [one.name for one in tmp_path.iterdir()] == ["a.mkv"]


def test_videos_that_cannot_be_read(tmp_path):
    source = write_video(tmp_path / "whole.mkv", EVEN, sound=4)
    data = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    mp4 = write_video(tmp_path / "whole.mp4", EVEN).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(mp4[: len(mp4) // 2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 99)
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        _write_sound(file, file.add_stream("aac", rate=44100), 0.2)
    for name, message in {
        "nowhere.mp4": "is no file",
        "empty.mp4": "is empty",
        "text.mp4": "is no video that FFmpeg can read",
        "sound.mp4": "has no video stream",
        "cut.mp4": "is no video that FFmpeg can read, or is cut off",
        "cut.mkv": r"is cut off after frame \d+|frame \d+ ",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            deblur_video(tmp_path / name, tmp_path / "out.mp4", same)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="is the source itself"):
        deblur_video(source, source, same)
    with pytest.raises(InputError, match=r"out.gif: a video ends in .mp4"):
        deblur_video(source, tmp_path / "out.gif", same)
    assert not list(tmp_path.glob("*out*"))


def test_sound_that_the_container_cannot_hold(tmp_path):
    source = write_video(tmp_path / "a.mp4", EVEN[:3], sound=0.2)
    with pytest.raises(InputError, match=r"b.webm: .webm cannot hold the audio of the source .*ends in .mkv"):
        deblur_video(source, tmp_path / "b.webm", same)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_full_disk_is_one_line(tmp_path):
    source = write_video(tmp_path / "a.mp4", EVEN[:3])
    (tmp_path / ".b.mp4.unfinished").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"b.mp4 could not be written \(.*No space left"):
        deblur_video(source, tmp_path / "b.mp4", same)
    assert not (tmp_path / "b.mp4").exists()


def test_a_missing_package_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install av"):
        deblur_video(tmp_path / "a.mp4", tmp_path / "b.mp4", same)


#: Half of the frames are shown for 30 ms and half for 70.
UNEVEN = [100 * (number // 2) + 30 * (number % 2) for number in range(100)]


def display_matrix(frame):
    return struct.unpack("=9i", bytes(frame.side_data[av.sidedata.sidedata.Type.DISPLAYMATRIX]))


def check_hundred_frames(source, target):
    before, after = frames(source), frames(target)
    assert len(before) == len(after) == 100
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert abs(duration(target) - duration(source)) < 0.04
    for kind in ("audio", "subtitle"):
        assert packets(target, kind) == packets(source, kind)
    with av.open(str(target)) as file:
        assert display_matrix(next(file.decode(video=0))) == QUARTER_TURN
    # Another reader, which turns the frames upright.
    reader = mmcv.VideoReader(str(target))
    assert [frame.shape for frame in reader] == [(64, 48, 3)] * 100
    assert (reader.frame_cnt, reader.resolution) == (100, (48, 64))


def write_hundred_frames(path):
    return write_video(path, UNEVEN, sound=5, subtitles=[(0, "one"), (1000, "two")], matrix=QUARTER_TURN)


def test_macr_deblur_with_a_hundred_uneven_frames(tmp_path, weights, capsys):
    source, target = write_hundred_frames(tmp_path / "a.mp4"), tmp_path / "out.mp4"
    assert main(["deblur", str(source), "-o", str(target), "--weights", str(weights), "--device", "cpu"]) == 0
    assert "1 done, 0 skipped, 0 failed" in capsys.readouterr().out
    check_hundred_frames(source, target)
    deblurrer = Deblurrer(weights, "cpu", "fp32")
    blurred, restored = frames(source), frames(target)
    # 4:2:0 halves the resolution of colour, so that lightness alone comes back as the network made it.
    for number in (0, 51, 98):
        expected = [lightness(deblurrer.restore(blurred[near][1])) for near in (number - 1, number, number + 1)]
        off = [np.abs(one - lightness(restored[number][1])).mean() for one in expected]
        assert off[1] < np.abs(expected[1] - lightness(blurred[number][1])).mean() / 2
        assert off[1] == min(off)


def test_macr_deblur_names_the_frame_that_fails_and_does_the_other_files(tmp_path, weights, capsys, monkeypatch):
    write_video(tmp_path / "in.mp4", EVEN[:20])
    write_video(tmp_path / "small.mp4", EVEN[:2], size=(32, 32))
    restore, calls = Deblurrer.restore, []

    def fails_once(self, image, progress=None):
        calls.append(image)
        if len(calls) == 17:
            raise RuntimeError("the network broke")
        return restore(self, image, progress)

    monkeypatch.setattr(Deblurrer, "restore", fails_once)
    arguments = [str(tmp_path / "in.mp4"), str(tmp_path / "small.mp4"), "-o", str(tmp_path / "out")]
    assert main(["deblur", *arguments, "--weights", str(weights), "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert "1 done, 0 skipped, 1 failed" in said
    assert "in.mp4: frame 17 could not be restored: the network broke" in said
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [".macr_deblur.jsonl", "small.mp4"]


@pytest.mark.slow
def test_a_killed_macr_deblur_skips_what_is_whole_and_starts_the_other_video_over(tmp_path, weights):
    write_video(tmp_path / "in" / "a.mp4", EVEN[:3])
    source, out = write_hundred_frames(tmp_path / "in" / "b.mp4"), tmp_path / "out"
    command = [sys.executable, "-W", "ignore", "-m", "macr_plugin.cli", "deblur", tmp_path / "in", "-o", out]
    command += ["--weights", weights, "--device", "cpu", "--ensemble"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (out / ".b.mp4.unfinished").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (out / "b.mp4").exists()
    written = (out / "a.mp4").stat().st_mtime_ns
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 done, 1 skipped, 0 failed" in result.stdout
    assert "b.mp4: a run that was killed had begun it: started over" in result.stderr
    assert (out / "a.mp4").stat().st_mtime_ns == written
    check_hundred_frames(source, out / "b.mp4")
