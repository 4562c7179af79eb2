"""The command as its users run it; what it writes is read back with OpenCV."""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import skimage.data
import torch
from deblur_command import deblur, files, read, write

from macr_plugin import Deblurrer
from macr_plugin.cli import main


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_folder_keeps_its_structure_and_is_skipped_when_done(weights, photo, capsys):
    for name in ("photos/a.png", "photos/deep/er/b.PNG", "photos/c.bmp"):
        write(name, photo)
    Path("photos/notes.txt").write_text("no picture")
    Path("photos/deep/loop").symlink_to(Path("photos").resolve())
    assert deblur(weights, "photos", "-o", "out") == 0
    assert files("out") == [".macr_deblur.jsonl", "a.png", "c.bmp", "deep/er/b.PNG"]
    assert "3 done, 0 skipped, 0 failed" in capsys.readouterr().out
    expected = Deblurrer(weights, precision="fp32").restore(photo)
    assert all(np.array_equal(read(f"out/{name}"), expected) for name in ("a.png", "c.bmp", "deep/er/b.PNG"))
    before = {name: Path("out", name).stat().st_mtime_ns for name in files("out")}
    write("photos/new.png", photo)
    assert deblur(weights, "photos", "-o", "out") == 0
    assert "1 done, 3 skipped, 0 failed" in capsys.readouterr().out
    assert all(Path("out", name).stat().st_mtime_ns == when for name, when in before.items() if "macr" not in name)


def test_other_sources_and_settings_do_not_count_as_done(weights, photo, capsys):
    write("in/a.png", photo)
    assert deblur(weights, "in") == 0
    capsys.readouterr()
    assert deblur(weights, "in", "--ensemble") == 1
    assert "deblurred/a.png is there already, and not from this source with these settings: give --overwrite" in (
        capsys.readouterr().out
    )
    write("in/a.png", 255 - photo)
    assert deblur(weights, "in") == 1
    assert deblur(weights, "in", "--overwrite") == 0
    assert np.array_equal(read("deblurred/a.png"), Deblurrer(weights, precision="fp32").restore(255 - photo))
    capsys.readouterr()
    # Once more would be for nothing: the same source and settings.
    assert deblur(weights, "in", "--overwrite") == 0
    assert "0 done, 1 skipped" in capsys.readouterr().out
    Path("deblurred/a.png").unlink()
    assert deblur(weights, "in") == 0
    assert read("deblurred/a.png").shape == photo.shape


def test_patterns_lists_and_one_file(weights, photo, capsys, monkeypatch):
    for name in ("a.png", "b.png", "sub/c.png"):
        write(name, photo)
    assert deblur(weights, "**/*.png", "-o", "globbed") == 0
    assert files("globbed") == [".macr_deblur.jsonl", "a.png", "b.png", "c.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\n\nsub\r\n")))
    assert deblur(weights, "-", "-o", "listed") == 0
    assert files("listed") == [".macr_deblur.jsonl", "a.png", "c.png"]
    assert deblur(weights, "a.png", "-o", "sharp.jpg") == 0
    assert read("sharp.jpg").shape == photo.shape
    capsys.readouterr()
    assert deblur(weights, "a.png", "-o", "sharp.jpg") == 1
    assert "sharp.jpg is there already: give --overwrite" in capsys.readouterr().out
    assert deblur(weights, "a.png", "-o", "sharp.jpg", "--overwrite") == 0


def test_formats_and_comparison(weights, photo, capsys):
    write("in/a.png", photo)
    assert deblur(weights, "in", "-o", "out", "--compare") == 0
    assert files("out") == [".macr_deblur.jsonl", "a.png", "a_compare.png"]
    height, width = photo.shape[:2]
    both = read("out/a_compare.png")
    assert both.shape[0] > height
    assert np.array_equal(both[-height:, :width], photo)
    assert np.array_equal(both[-height:, -width:], read("out/a.png"))
    for name, signature in {"jpg": b"\xff\xd8", "webp": b"RIFF", "png": b"\x89PNG"}.items():
        assert deblur(weights, "in", "-o", name, "--format", name) == 0
        assert Path(name, f"a.{name}").read_bytes().startswith(signature)


def test_one_bad_file_among_good_ones(weights, photo, capsys):
    write("in/good.png", photo)
    png = Path("in/good.png").read_bytes()
    Path("in/cut.png").write_bytes(png[:2000])
    Path("in/empty.jpg").touch()
    Path("in/text.webp").write_text("hello")
    write("in/wide.png", np.zeros((3, 30000, 3), np.uint8))
    write("in/pixel.png", photo[:1, :1])
    Path("none").mkdir()
    Path("film.xyz").touch()
    assert deblur(weights, "in", "none", "nowhere.png", "film.xyz", "-o", "out") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 done, 0 skipped, 6 failed"
    for name in ("in/cut.png", "in/empty.jpg", "in/text.webp", "none", "nowhere.png", "film.xyz"):
        (line,) = [line for line in said if line.startswith(f"failed: {name}")]
        assert ": " in line.removeprefix("failed: ")
    assert files("out") == [".macr_deblur.jsonl", "good.png", "pixel.png", "wide.png"]
    assert read("out/wide.png").shape == (3, 30000, 3)
    assert read("out/pixel.png").shape == (1, 1, 3)


def test_sources_are_never_written_over(weights, photo, capsys):
    write("in/a.png", photo)
    write("other/a.png", 255 - photo)
    Path("linked").mkdir()
    Path("linked/a.png").symlink_to(Path("in/a.png").resolve())
    for arguments in (["in", "-o", "in"], ["in/a.png", "-o", "in"], ["in/a.png", "-o", "in/a.png"]):
        assert deblur(weights, *arguments, "--overwrite") == 1
    assert deblur(weights, "other/a.png", "in/a.png", "-o", "linked", "--overwrite") == 1
    assert "which is a source" in capsys.readouterr().out
    assert np.array_equal(read("in/a.png"), photo)
    assert np.array_equal(read("other/a.png"), 255 - photo)


def test_an_output_folder_inside_the_input_folder_is_no_input(weights, photo, capsys):
    write("in/a.png", photo)
    for _ in range(2):
        assert deblur(weights, "in", "-o", "in/out") == 0
    assert files("in") == ["a.png", "out/.macr_deblur.jsonl", "out/a.png"]


def write_film(path, frames=5):
    av = pytest.importorskip("av")
    astronaut = skimage.data.astronaut()[:64, :80]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(astronaut, number, axis=1).copy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_videos_among_pictures(weights, photo, capsys):
    write("in/a.png", photo)
    write_film("in/film.mp4")
    Path("in/broken.mkv").write_bytes(b"no video")
    assert deblur(weights, "in", "-o", "out", "--format", "jpg") == 1
    said = capsys.readouterr().out
    assert "2 done, 0 skipped, 1 failed" in said
    assert "failed: in/broken.mkv" in said
    video = cv2.VideoCapture("out/film.mp4")
    frames = [video.read()[1] for _ in range(5)]
    assert not video.read()[0]
    source = cv2.VideoCapture("in/film.mp4").read()[1][..., ::-1]
    expected = Deblurrer(weights, precision="fp32").restore(np.ascontiguousarray(source))
    # The encoder halves the resolution of colour and loses some of the lightness: less than what the network changes.
    result, before, wanted = (
        cv2.cvtColor(np.ascontiguousarray(one), cv2.COLOR_RGB2GRAY).astype(int)
        for one in (frames[0][..., ::-1], source, expected)
    )
    lost, changed = np.abs(result - wanted).mean(), np.abs(before - wanted).mean()
    assert lost < changed / 2
    assert deblur(weights, "in/film.mp4", "-o", "out") == 0
    assert "0 done, 1 skipped" in capsys.readouterr().out


def test_two_inputs_with_one_output_name(weights, photo, capsys):
    write("one/a.png", photo)
    write("two/a.bmp", photo)
    assert deblur(weights, "one", "two", "one/a.png", "-o", "out", "--format", "png") == 1
    said = capsys.readouterr().out
    assert "1 done, 0 skipped, 1 failed" in said
    assert "two/a.bmp would be written to out/a.png, as one/a.png is: rename one of them" in said


def test_a_disk_that_fills_up(weights, photo, capsys):
    """A file system of 40 kB, which is then mounted read-only."""
    write("in/a.png", np.random.default_rng(0).integers(0, 256, (150, 150, 3)).astype(np.uint8))
    write("in/b.png", photo[:20, :20])
    Path("out").mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=40k", "tmpfs", "out"], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        assert deblur(weights, "in", "-o", "out") == 1
        said = capsys.readouterr().out
        assert "1 done, 0 skipped, 1 failed" in said
        assert "out/a.png could not be written ([Errno 28] No space left on device): free some disk space" in said
        assert files("out") == [".macr_deblur.jsonl", "b.png"]
        subprocess.run([mount, "-o", "remount,ro", "out"], check=True)
        assert deblur(weights, "in", "-o", "out") == 1
        assert "Read-only file system" in capsys.readouterr().out
    finally:
        subprocess.run(["umount", "out"], check=True)


def one_line(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["deblur", *map(str, arguments)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_bad_weights(photo, capsys, tmp_path, network):
    write("a.png", photo)
    Path("evil.pth").write_bytes(pickle.dumps(Evil()))
    assert "weights evil.pth" in one_line(capsys, "a.png", "--weights", "evil.pth")
    torch.save({"params": Evil()}, "evil.pth")
    assert "weights evil.pth" in one_line(capsys, "a.png", "--weights", "evil.pth")
    assert not Path("executed").exists()
    torch.save({"params": network.state_dict(), "network_g": {"type": "DeepDeblur"}}, "other.pth")
    assert "weights other.pth do not fit DeepDeblur" in one_line(capsys, "a.png", "--weights", "other.pth")
    torch.save({"params": network.state_dict()}, "bare.pth")
    assert "no option file" in one_line(capsys, "a.png", "--weights", "bare.pth")
    assert "no such file or folder" in one_line(capsys, "a.png", "--weights", "nowhere.pth")
    assert not Path("deblurred").exists()


def test_several_processes_cannot_share_standard_input(weights, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun started several: give the files" in one_line(capsys, "-", "--weights", weights)


PROGRAM = [sys.executable, "-W", "ignore", "-m", "macr_plugin.cli", "deblur"]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(weights, photo):
    for number in range(30):
        write(f"in/{number:02d}.png", np.roll(photo, number, axis=0).repeat(3, axis=0).repeat(3, axis=1))
    command = [*PROGRAM, "in", "-o", "out", "--weights", weights, "--precision", "fp32", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(Path("out").glob("*.png"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    assert 5 <= len(done) < 30
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{30 - len(done)} done, {len(done)} skipped, 0 failed" in said
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    deblurrer = Deblurrer(weights, device="cpu", precision="fp32")
    for number in (0, 4, 17, 29):
        assert np.array_equal(read(f"out/{number:02d}.png"), deblurrer.restore(read(f"in/{number:02d}.png")))


@pytest.mark.slow
def test_processes_of_torchrun_share_the_files(weights, photo):
    for number in range(5):
        write(f"in/{number}.png", photo)
    # By name both come to the first process, were the files dealt out as they lie.
    for name in ("in/0a.mp4", "in/1a.mp4"):
        write_film(name)
    Path("in/bad.png").write_bytes(b"x")
    torchrun = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
    ]
    command = [*torchrun, *PROGRAM[3:], "in", "-o", "out", "--weights", weights, "--device", "cpu"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert result.stdout.count("7 done, 0 skipped, 1 failed") == 1
    assert result.stdout.count("failed: in/bad.png") == 1
    results = ["0.png", "0a.mp4", "1.png", "1a.mp4", "2.png", "3.png", "4.png"]
    assert files("out") == [".macr_deblur.1.jsonl", ".macr_deblur.jsonl", *results]
    shares = [
        [Path(json.loads(line)["target"]).suffix for line in Path("out", name).read_text().splitlines() if line]
        for name in files("out")[:2]
    ]
    assert [share.count(".mp4") for share in shares] == [1, 1]
    assert sorted(share.count(".png") for share in shares) == [2, 3]
    for name in ("0a.mp4", "1a.mp4"):
        assert len(list(mmcv.VideoReader(f"out/{name}"))) == 5
    Path("in/bad.png").unlink()
    alone = subprocess.run(
        [*PROGRAM, "in", "-o", "out", "--weights", weights], capture_output=True, text=True, check=True
    )
    assert "0 done, 7 skipped, 0 failed" in alone.stdout
