"""Patch of the pictures that BasicSR's models save: a full disk ends in a traceback that names no file."""

from __future__ import annotations

import functools
from typing import Any

from macr_plugin.basicsr_compat.patching import replace_everywhere
from macr_plugin.errors import FREE_DISK_SPACE, DiskError


def patch_saved_pictures() -> None:
    """Name the picture that cannot be written, in one line."""
    from basicsr.utils import img_util

    imwrite = img_util.imwrite

    @functools.wraps(imwrite)
    def patched_imwrite(img: Any, file_path: str, *args: Any, **kwargs: Any) -> None:
        try:
            imwrite(img, file_path, *args, **kwargs)
        except OSError as error:
            # OpenCV does not tell why; errors of the system have a number.
            if error.errno is not None:
                raise
            raise DiskError(f"{file_path} could not be written: {FREE_DISK_SPACE}") from error

    replace_everywhere(imwrite, patched_imwrite)
