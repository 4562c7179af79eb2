"""A signal ends a training after its step."""

import os
import signal
from types import SimpleNamespace

import pytest
from basicsr.models.base_model import BaseModel

from macr_plugin.basicsr_compat import signals


@pytest.fixture
def request_to_stop(monkeypatch):
    """Handlers of signals in this process, taken back afterwards."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    # Tests that run in the background ignore some.
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    monkeypatch.delenv("RANK", raising=False)
    stop = signals.StopRequest()
    stop.install()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


class Model:
    def __init__(self):
        self.opt = {"dist": False, "rank": 0}
        self.saved = []

    def save(self, epoch, current_iter):
        self.saved.append(current_iter)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_ends_the_training_after_its_step(request_to_stop, capsys, number):
    model = Model()
    request_to_stop.before_step(model, 1)
    request_to_stop.before_step(model, 2)
    os.kill(os.getpid(), number)
    assert model.saved == [], "the step goes on"
    with pytest.raises(SystemExit) as ended:
        request_to_stop.before_step(model, 3)
    assert ended.value.code == 128 + number
    assert model.saved == [2]
    assert capsys.readouterr().err.count("\n") == 1


def test_where_no_steps_are_taken_it_ends_at_once(request_to_stop, capsys):
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert capsys.readouterr().err.endswith(": SIGTERM: ended\n")


def test_after_the_last_save_it_ends_at_once(request_to_stop):
    model = Model()
    request_to_stop.before_step(model, 1)
    model.save(-1, -1)
    assert model.saved == [-1]
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_in_the_last_step_lets_the_training_be_saved(request_to_stop):
    model = Model()
    request_to_stop.before_step(model, 1)
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(SystemExit) as ended:
        model.save(-1, -1)
    assert ended.value.code == 129
    assert model.saved == [-1]


def test_what_a_parent_ignores_stays_ignored(monkeypatch):
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals.StopRequest().install()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_every_model_is_asked_at_each_step_and_this_process_keeps_its_handlers(restored_basicsr):
    before = signal.getsignal(signal.SIGINT)
    signals.patch_signals()
    assert signal.getsignal(signal.SIGINT) is before, "no training program"
    steps = []
    model = SimpleNamespace(opt={"dist": False, "rank": 0}, save=None, schedulers=[], steps=steps)
    BaseModel.update_learning_rate(model, 1)
    assert model.save is not None, "its end is followed"
