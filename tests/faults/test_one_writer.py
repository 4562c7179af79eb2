"""Two trainings of one name: the second is refused before anything is renamed."""

import signal

import pytest
from started_programs import wait_until
from trainings import logged_steps

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_second_training_of_one_name_is_refused(train, ranks):
    training = train(train__total_iter=100_000)
    (first,) = training.start()
    assert wait_until(lambda: training.states(), [first])
    before = sorted(path.name for path in training.experiment.parent.iterdir())
    for arguments in (("--auto_resume",), ("--force_yml", "manual_seed=1")):
        processes = training.start(*arguments, ranks=ranks)
        assert [process.wait() for process in processes] == [2] * ranks
        said = "".join(process.output.read_text() for process in processes)
        errors = [line for line in said.splitlines() if "another process is writing into" in line]
        assert len(errors) == 1, said
        assert f"{training.experiment}: give this run another name: wait for process {first.number} on " in errors[0]
        assert "Traceback" not in said
    assert sorted(path.name for path in training.experiment.parent.iterdir()) == before
    step = logged_steps(first.output.read_text())[-1]
    assert wait_until(lambda: logged_steps(first.output.read_text())[-1] > step, [first]), "it trains on"
    first.send(signal.SIGTERM)
    assert first.wait() == 143
    assert not list(training.experiment.parent.glob(".*.lock"))


def test_a_dead_process_leaves_no_lock(train):
    training = train(train__total_iter=100_000, datasets__train__num_worker_per_gpu=2)
    for _ in range(2):
        (process,) = training.start()
        assert wait_until(lambda: training.states(), [process]), process.output.read_text()
        process.send(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
