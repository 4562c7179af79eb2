"""Pictures that BasicSR's models save on a disk that takes no more."""

import basicsr.models.sr_model
import cv2
import numpy as np
import pytest

from macr_plugin.basicsr_compat.saved_pictures import patch_saved_pictures
from macr_plugin.errors import DiskError

PICTURE = np.zeros((8, 8, 3), np.uint8)


def test_a_picture_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    patch_saved_pictures()
    # What OpenCV answers on a full disk.
    monkeypatch.setattr(cv2, "imwrite", lambda *arguments: False)
    with pytest.raises(DiskError, match=r"frame.png could not be written: free some disk space"):
        basicsr.models.sr_model.imwrite(PICTURE, str(tmp_path / "frame.png"))


def test_an_error_of_the_system_stays_and_a_good_disk_is_written_to(tmp_path):
    patch_saved_pictures()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        basicsr.models.sr_model.imwrite(PICTURE, str(tmp_path / "file" / "frame.png"))
    basicsr.models.sr_model.imwrite(PICTURE, str(tmp_path / "new" / "frame.png"))
    assert cv2.imread(str(tmp_path / "new" / "frame.png")).shape == (8, 8, 3)
