"""A file is complete under its name, or not there."""

import os
import resource
import stat
from pathlib import Path

import pytest

from macr_plugin.errors import DiskError
from macr_plugin.filesystem.atomic import atomic_write


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_that_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file", "", durable=True) as file:
            file.write(b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_a_durable_file_is_flushed_before_its_name_and_its_folder_after(tmp_path, monkeypatch):
    flushed = []

    def fsync(descriptor):
        flushed.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), (tmp_path / "file").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "file", "", durable=True) as file:
        file.write(b"content")
    assert flushed == [(str(tmp_path / ".file.unfinished"), False), (str(tmp_path), True)]


@pytest.mark.parametrize(("limit", "reason"), [(100, "File too large"), (1 << 20, "unexpected pos")])
def test_an_error_that_does_not_say_why_is_told_by_writing_on(tmp_path, limit, reason):
    """As ``torch.save`` on a full disk: writing on tells, where it fails too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DiskError, match=rf"{reason}.*: make room"), atomic_write(tmp_path / "a", "make room"):
            raise RuntimeError("unexpected pos 64 vs 0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
