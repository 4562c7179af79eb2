"""Patch of how a training ends that is told to: BasicSR loses what it did since its last checkpoint."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from macr_plugin.basicsr_compat.program import is_training_program, is_training_worker, main_module_name

#: Ctrl-C, a terminal that was closed, `kill` and the end of a job's time, and the warning that Slurm can send before.
#: Windows lacks two of them.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
#: Seconds in which a launcher passes on to its processes what the terminal has sent them already.
SAME_SIGNAL = 3


class StopRequest:
    """A signal that asks this process to end: after the step that it is taking, or at once where it takes none.

    A second signal ends it at once. Of several processes all end after the same step, whichever of them were told.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._number: int | None = None
        self._received = 0.0
        self._is_training = False
        self._group: Any = None
        self._told: Any = None
        self._asking: Any = None

    def install(self) -> None:
        """Handle the signals."""
        for number in SIGNALS:
            # What a parent wants ignored, as nohup does, stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self._number is None:
            self._number, self._received = number, time.monotonic()
            if not self._is_training:
                self._say("ended")
                raise SystemExit(128 + number)
        elif "RANK" not in os.environ or time.monotonic() - self._received > SAME_SIGNAL:
            os._exit(128 + number)

    def before_step(self, model: Any, current_iter: int) -> None:
        """Save and end the program if any process was told to end.

        Args:
            model: Saved as it is after the step before.
            current_iter: Number of the step.
        """
        if not self._is_training:
            self._is_training = True
            self._follow_end(model)
        number = self._agreed() if model.opt["dist"] else self._number
        if not number:
            return
        self._number = number
        if current_iter > 1:
            # The epoch of a state is not read: a resume finds it from the iteration.
            model.save(0, current_iter - 1)
            if hasattr(model, "finish_saving"):
                model.finish_saving()
        if model.opt["rank"] == 0:
            self._say(f"saved step {current_iter - 1}, --auto_resume goes on from it" if current_iter > 1 else "ended")
        self._end_together()
        raise SystemExit(128 + number)

    def _follow_end(self, model: Any) -> None:
        """Let signals end the program at once when BasicSR has saved the last weights, which have the number -1."""
        save = model.save

        @functools.wraps(save)
        def following_save(epoch: int, current_iter: int) -> None:
            save(epoch, current_iter)
            if current_iter == -1:
                self._is_training = False
                # Several processes validate together once more, whichever of them were told to end.
                if self._number and not model.opt["dist"]:
                    self._say("the training has ended and is saved")
                    raise SystemExit(128 + self._number)

        model.save = following_save

    def _agreed(self) -> int:
        """The signal that any process had received a step ago, 0 for none; hardly waits."""
        import torch

        if self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")
        told = 0
        if self._asking is not None:
            self._asking.wait()
            told = int(self._told)
        self._told = torch.tensor(self._number or 0)
        self._asking = torch.distributed.all_reduce(
            self._told, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return told

    def _end_together(self) -> None:
        """Wait until the first process has saved: the launcher ends the others once one has ended."""
        if self._group is not None:
            import torch

            torch.distributed.barrier(group=self._group)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _say(self, what: str) -> None:
        name = signal.Signals(self._number or 0).name
        print(f"{main_module_name() or 'macr_plugin'}: {name}: {what}", file=sys.stderr, flush=True)


def patch_signals() -> None:
    """Let SIGTERM, SIGINT, SIGHUP and SIGUSR1 end a training after its step, saved, in one line.

    The exit status is 128 and the number of the signal. A test, and a training that takes no steps yet, end at once.
    """
    from basicsr.models.base_model import BaseModel

    request = StopRequest()
    update_learning_rate = BaseModel.update_learning_rate

    @functools.wraps(update_learning_rate)
    def patched_update_learning_rate(self: Any, current_iter: int, *args: Any, **kwargs: Any) -> None:
        request.before_step(self, current_iter)
        update_learning_rate(self, current_iter, *args, **kwargs)

    BaseModel.update_learning_rate = patched_update_learning_rate
    if is_training_program() and not is_training_worker():
        request.install()


def leave_signals_to_parent(worker_id: int = 0) -> None:
    """Let a data loading worker work on while the training ends: a terminal and Slurm send their signals to all.

    Args:
        worker_id: As torch's ``worker_init_fn`` gets it; not used.
    """
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # Only a waiting thread learns who sent a signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=end_when_parent_says, daemon=True).start()


def end_when_parent_says() -> None:
    """Wait for a SIGTERM of the parent process, which it sends to workers that it needs no longer, and end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
