"""Curves of a training that was resumed."""

import basicsr.utils
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from macr_plugin.basicsr_compat.event_log import patch_event_log


@pytest.mark.parametrize("is_patched", [False, True])
def test_a_resume_does_not_run_double(tmp_path, is_patched, restored_basicsr):
    if is_patched:
        patch_event_log()
    opt = {"path": {"resume_state": None}}
    first = basicsr.utils.init_tb_logger(str(tmp_path))
    for step in range(1, 8):
        first.add_scalar("loss", step, step)
    # The first process is killed here: nothing closes what it writes.
    if not is_patched:
        first.flush()
    basicsr.utils.check_resume(opt, 5)
    second = basicsr.utils.init_tb_logger(str(tmp_path))
    for step in range(6, 9):
        second.add_scalar("loss", 10 * step, step)
    second.flush()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    found = [(event.step, event.value) for event in events]
    expected = [(step, step) for step in range(1, 6)] + [(step, 10 * step) for step in range(6, 9)]
    assert (found == expected) == is_patched
