"""`macr prepare gopro` killed without warning at random moments, and run again.

MACR_TEST_GOPRO=GOPRO_Large runs the same on a data set that is there, instead of on a small one made for the test.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from saved_pictures import save_pair

pytestmark = pytest.mark.slow

SCENES, FRAMES, HEIGHT, WIDTH = 4, 24, 180, 320
KILLS = 5
# Small batches, so that the data set is written in as many steps as a large one.
PREPARE = """
import sys
from macr_plugin.cli import main
from macr_plugin.data.storage import resumable_lmdb
resumable_lmdb.PAIRS_PER_BATCH = 2
main(["prepare", "gopro", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def gopro_root(tmp_path_factory):
    """Pairs of soft noise, which PNG compresses about as well as photographs, in the layout of GoPro."""
    if "MACR_TEST_GOPRO" in os.environ:
        return Path(os.environ["MACR_TEST_GOPRO"]).resolve()
    root = tmp_path_factory.mktemp("source") / "GOPRO_Large"
    generator = np.random.default_rng(0)
    for scene in range(SCENES):
        split = "test" if scene == 0 else "train"
        for frame in range(FRAMES):
            sharp = cv2.GaussianBlur(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 1.5)
            save_pair(root / split / f"scene{scene}", f"{frame:06d}.png", sharp)
    return root


def start(root, out, storage):
    crops = ["--crop-size", "128", "--crop-step", "64"] if storage == "crops" else []
    arguments = ["--root", str(root), "--out", str(out), "--workers", "2", "--storage", storage, *crops]
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=3600)
    assert process.returncode == 0, output
    return output


def databases(out):
    return {file: file.stat().st_mtime_ns for file in out.glob(".*.macr-partial/*.lmdb/data.mdb")}


def wait_until_writing(out, process):
    """Wait until the process has changed the partial LMDBs of the one before."""
    before = databases(out)
    deadline = time.monotonic() + 120
    while databases(out) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def pairs_counted(out):
    return sum(json.loads(file.read_text())["pairs"] for file in out.glob(".*.macr-partial/progress.json"))


def entries(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as database, database.begin() as transaction:
        return [(bytes(key), hashlib.sha256(value).digest()) for key, value in transaction.cursor()]


def contents(out):
    assert not [folder for folder in out.iterdir() if folder.suffix != ".lmdb"]
    return {folder.name: (entries(folder), (folder / "meta_info.txt").read_text()) for folder in out.iterdir()}


@pytest.mark.parametrize("storage", ["png", "crops", "uncompressed"])
def test_five_kills_change_nothing(gopro_root, tmp_path, storage):
    process = start(gopro_root, tmp_path / "undisturbed", storage)
    wait_until_writing(tmp_path / "undisturbed", process)
    began = time.monotonic()
    finish(process)
    duration = time.monotonic() - began

    generator = random.Random(storage)
    out = tmp_path / "out"
    counts = []
    for _ in range(KILLS):
        process = start(gopro_root, out, storage)
        wait_until_writing(out, process)
        time.sleep(generator.uniform(0, duration / KILLS))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(pairs_counted(out))
        # What is there under a final name is complete at every moment.
        for folder in out.glob("*.lmdb"):
            lines = (folder / "meta_info.txt").read_text().splitlines()
            assert {key.split(b".")[0].decode() for key, _ in entries(folder)} == {line.split(".")[0] for line in lines}
    assert any(counts), "no kill fell into the writing"
    finish(start(gopro_root, out, storage))
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert finish(start(gopro_root, out, storage)).count("Already there") == 2
