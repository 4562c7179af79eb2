"""Locks: one process at a time, and nothing left of a dead one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from macr_plugin.errors import InputError
from macr_plugin.filesystem.lock import FileLock

HOLD = """
import sys, time
from pathlib import Path
from macr_plugin.filesystem.lock import FileLock
lock = FileLock(Path(sys.argv[1]), "busy")
print("held", flush=True)
time.sleep(100)
"""


def test_a_second_lock_is_refused_until_the_first_is_released(tmp_path):
    path = tmp_path / "made" / "for" / "it" / ".run.lock"
    with FileLock(path, "no two at once"):
        with pytest.raises(InputError, match=rf"no two at once: wait for process {os.getpid()} on .*, or end it"):
            FileLock(path, "no two at once")
        assert path.exists()
    assert not list(tmp_path.iterdir()), "nor a folder that was made for it"
    with FileLock(path, "no two at once") as lock:
        (path.parent / "other").touch()
        lock.release()
    assert [path.name for path in path.parent.iterdir()] == ["other"]


def test_a_killed_process_holds_no_lock(tmp_path):
    path = tmp_path / ".run.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {process.pid} on "):
            FileLock(path, "busy")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    FileLock(path, "busy").release()
    assert not path.exists()


def test_a_forked_process_does_not_hold_the_lock(tmp_path):
    lock = FileLock(tmp_path / ".run.lock", "busy")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"runs")
        time.sleep(100)
        os._exit(0)
    try:
        assert os.read(reading, 4) == b"runs"
        os.close(lock.descriptor)  # as the end of this process would
        lock.descriptor = None
        FileLock(tmp_path / ".run.lock", "busy").release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lock_whose_file_another_process_removed_is_taken_again(tmp_path, monkeypatch):
    import fcntl

    path, lock = tmp_path / ".run.lock", fcntl.flock

    def removed_before_it_is_locked(*arguments):
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", removed_before_it_is_locked)
    with FileLock(path, "busy"), pytest.raises(InputError):
        FileLock(path, "busy")


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    import errno
    import fcntl

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    FileLock(tmp_path / ".run.lock", "busy").release()
    assert "cannot be locked (No locks available): nothing keeps a second process away." in capsys.readouterr().err
