"""Patch of a log file that cannot be written: Python prints a traceback for every line and the training goes on."""

from __future__ import annotations

import functools
import logging
from typing import Any

from macr_plugin.basicsr_compat.patching import replace_everywhere


def patch_log_file() -> None:
    """Let a training end where its log cannot be written: on a full disk its next checkpoint could not be either."""
    from basicsr.utils import logger

    get_root_logger = logger.get_root_logger

    @functools.wraps(get_root_logger)
    def patched_get_root_logger(*args: Any, **kwargs: Any) -> logging.Logger:
        root_logger = get_root_logger(*args, **kwargs)
        for handler in root_logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _raise_again  # type: ignore[method-assign]
        return root_logger

    replace_everywhere(get_root_logger, patched_get_root_logger)


def _raise_again(record: logging.LogRecord) -> None:
    """Called by a handler while it handles an error."""
    raise
