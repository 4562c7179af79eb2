"""Bad input through the command: one line that names the file and the remedy, and the others are done."""

import io
import os
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from deblur_command import deblur, files, write

from macr_plugin.cli import main


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


def write_part(path, share, photo):
    content = write(f"whole/{Path(path).name}", photo).read_bytes()
    Path(path).write_bytes(content[: int(share * len(content))])


def write_film_without_decoder(path):
    av = pytest.importorskip("av")
    with av.open("film.mkv", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 32
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())
    Path(path).write_bytes(Path("film.mkv").read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_OF_THE_FUTURE"))


CASES = {
    "not a picture": ("in/a.png", lambda path, photo: path.write_text("hello"), "is not a picture .*: expected PNG"),
    "a truncated picture": ("in/a.jpg", lambda path, photo: write_part(path, 0.5, photo), "incomplete .*: copy it"),
    "the start of a picture": ("in/a.png", lambda path, photo: write_part(path, 0.005, photo), ": (copy|expected)"),
    "zero bytes": ("in/a.webp", lambda path, photo: path.touch(), "is empty: copy it again"),
    "a video of zero bytes": ("in/a.mp4", lambda path, photo: path.touch(), "is empty: copy it"),
    "not a video": ("in/a.mov", lambda path, photo: path.write_text("hello"), "is no video"),
    "unsupported codec": (
        "in/a.mkv",
        lambda path, photo: write_film_without_decoder(path),
        "FFmpeg has no decoder for its video stream: convert it to H.264",
    ),
    "a folder without pictures": ("none", lambda path, photo: path.mkdir(), "holds no pictures: expected .png"),
    "another kind of file": ("film.xyz", lambda path, photo: path.touch(), "has no suffix of a picture .*: expected"),
    "nothing": ("nowhere.png", lambda path, photo: None, "there is no such file or folder: check its name"),
    "a named pipe": ("in/a.png", lambda path, photo: os.mkfifo(path), "neither a file nor a folder: give a picture"),
    "a socket": ("in/a.tif", lambda path, photo: write_socket(str(path)), "neither a file nor a folder: give a pic"),
    "a broken link": ("in/a.png", lambda path, photo: path.symlink_to("gone.png"), "leads nowhere: repair or remove"),
    "a link to itself": ("in/a.png", lambda path, photo: path.symlink_to("a.png"), "leads nowhere: repair or remove"),
    "a name of two lines": ("in/a\nb.png", lambda path, photo: path.write_text("x"), "is not a picture"),
    "a name that is no text": ("in/a\udcff.png", lambda path, photo: path.write_text("x"), "is not a picture"),
    "a name with a pattern": ("in/a[1]*%s.png", lambda path, photo: path.write_text("x"), "is not a picture"),
    "escapes for a terminal": ("in/a\x1b[2J.png", lambda path, photo: path.write_text("x"), "is not a picture"),
}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_one_line_names_the_file_and_the_remedy(weights, photo, capsys, case, alone):
    name, make, message = CASES[case]
    write("in/good.png", photo)
    write("good.bmp", photo)
    make(Path(name), photo)
    inputs = [name, "good.bmp"] if alone or not name.startswith("in/") else ["in", "good.bmp"]
    assert deblur(weights, *inputs, "-o", "out") == 1
    said = capsys.readouterr().out
    good = ["good.bmp"] if "in" not in inputs else ["good.bmp", "good.png"]
    assert said.splitlines()[0] == f"{len(good)} done, 0 skipped, 1 failed"
    assert said.count("\n") == 2
    shown = name.replace("\n", "\\n").replace("\udcff", "\\udcff").replace("\x1b", "\\x1b")
    assert said.splitlines()[1].startswith(f"failed: {shown}")
    assert re.search(message, said.splitlines()[1].removeprefix(f"failed: {shown}"))
    assert files("out") == [".macr_deblur.jsonl", *good]


def test_a_folder_that_cannot_be_listed(weights, photo, capsys, monkeypatch):
    """Done to ``os.scandir``, since the superuser can list everything."""
    write("in/good.png", photo)
    Path("in/locked").mkdir()
    scandir = os.scandir

    def refuses(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)
    assert deblur(weights, "in") == 1
    assert "failed: in/locked is a folder that cannot be listed: allow it, or leave it out" in capsys.readouterr().out


def test_names_that_are_no_text_come_on_a_list_and_go_to_any_terminal(weights, photo, capsys, monkeypatch):
    write("in/a.png", photo)
    Path("in/a.png").rename("in/a\udcff.png")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"in/a\xff.png\nin/\xf0\x9f\x98\x80.png\n")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True))
    assert deblur(weights, "-", "-o", "out") == 1
    assert sys.stdout.buffer.getvalue().startswith(b"1 done, 0 skipped, 1 failed\nfailed: in/\\U0001f600.png: there is")
    assert files("out") == [".macr_deblur.jsonl", "a\udcff.png"]


def test_long_names(weights, photo, capsys):
    longest = "x" * 251 + ".png"
    write(f"in/{longest}", photo)
    assert deblur(weights, "in") == 0
    assert files("deblurred") == [".macr_deblur.jsonl", longest]
    assert deblur(weights, "in", "-o", "out", "--compare") == 1
    assert "_compare.png could not be written (its name is too long): choose a shorter one" in capsys.readouterr().out


def test_a_comparison_counts_as_an_output(weights, photo, capsys):
    write("in/a.png", photo)
    write("in/a_compare.png", 255 - photo)
    assert deblur(weights, "in", "-o", "out", "--compare") == 1
    said = capsys.readouterr().out
    assert "1 done, 0 skipped, 1 failed" in said
    assert "in/a_compare.png would be written to out/a_compare.png, as in/a.png is: rename one of them" in said
    before = write("out2/a_compare.png", 255 - photo).read_bytes()
    assert deblur(weights, "in/a.png", "out2/a_compare.png", "-o", "out2", "--compare") == 1
    assert "in/a.png would be written to out2/a_compare.png, which is a source" in capsys.readouterr().out
    assert Path("out2/a_compare.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "-o", "out"], "one input is empty: give a file, a folder or a pattern"),
        (["in", "-o", "out.png"], "-o out.png is no name for a folder"),
        (["in/a.png", "in/b.png", "-o", "out.jpg"], "-o out.jpg is no name for a folder"),
        (["in/*.png", "-o", "out.jpg"], "-o out.jpg is no name for a folder"),
        (["in/a.png", "-o", "out.gif"], "-o out.gif is no name for a folder: for one input end it in .png, .jpg"),
        (["in", "-o", "in/a.png"], "-o in/a.png is a file: name a folder for the results"),
        (["in/a.png", "-o", "out.png", "--format", "jpg"], "-o out.png names a file already: leave --format out"),
    ],
)
def test_outputs_that_do_not_fit_the_inputs(weights, photo, capsys, arguments, message):
    write("in/a.png", photo)
    write("in/b.png", photo)
    with pytest.raises(SystemExit) as stop:
        main(["deblur", "--weights", str(weights), *arguments])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [one.name for one in Path().iterdir()] == ["in"]


def test_widest_pictures(weights, capsys):
    write("in/wide.png", np.zeros((2, 30000, 3), np.uint8))
    write("in/good.png", np.zeros((20, 30, 3), np.uint8))
    assert deblur(weights, "in", "--format", "webp") == 1
    said = capsys.readouterr().out
    assert "1 done, 0 skipped, 1 failed" in said
    assert "wide.webp cannot be encoded" in said
    assert said.rstrip().endswith(": choose png (--format)")
    assert files("deblurred") == [".macr_deblur.jsonl", "good.webp"]
