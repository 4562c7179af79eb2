"""Patch of TensorBoard's curves across a resume."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from macr_plugin.basicsr_compat.patching import Options, replace_everywhere


def patch_event_log() -> None:
    """Let a resumed training go on with its curves where it goes on itself; BasicSR's run double steps.

    What a training had logged beyond the step of its state is marked as void, and what it logged before it is not lost,
    however the training ended.
    """
    from basicsr.utils import logger, misc
    from basicsr.utils.dist_util import master_only

    check_resume, init_tb_logger = misc.check_resume, logger.init_tb_logger
    next_steps: list[int] = []

    @functools.wraps(check_resume)
    def noting_check_resume(opt: Options, resume_iter: int) -> None:
        check_resume(opt, resume_iter)
        next_steps[:] = [resume_iter + 1]

    @functools.wraps(init_tb_logger)
    @master_only
    def patched_init_tb_logger(log_dir: str) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        class WrittenAtOnce(SummaryWriter):
            """Writes each figure before the training goes on: a resume does not log again what is before its state."""

            def add_scalar(self, *args: Any, **kwargs: Any) -> None:
                super().add_scalar(*args, **kwargs)
                self.flush()

        return WrittenAtOnce(log_dir=log_dir, purge_step=next_steps[0] if next_steps else None)

    threading.excepthook = _without_writers(threading.excepthook)
    replace_everywhere(check_resume, noting_check_resume)
    replace_everywhere(init_tb_logger, patched_init_tb_logger)


def _without_writers(report: Callable[[threading.ExceptHookArgs], Any]) -> Callable[[threading.ExceptHookArgs], None]:
    """Leave an error of TensorBoard's writing thread to the training, which meets it when it logs the figure."""

    def report_others(arguments: threading.ExceptHookArgs) -> None:
        if type(arguments.thread).__name__ != "_AsyncWriterThread":
            report(arguments)

    return report_others
