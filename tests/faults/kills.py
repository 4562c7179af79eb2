"""Kills one training again and again without warning, and compares what it ends with bit by bit.

``python tests/faults/kills.py --kills 100`` shares the kills out over trainings without workers, with 2 workers and of
2 processes connected by gloo. A third of the kills or more fall while a checkpoint is written, the others at any moment
from the start of a process on. A kill may lose the steps since the last whole checkpoint: the save interval, and the
steps that were taken while the next one was being written.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from started_programs import Starter, wait_until
from trainings import SAVE_INTERVAL, Training, differences, logged_steps

#: Workers that load data and processes that train.
SETTINGS = ((0, 1), (2, 1), (0, 2))
STEPS_PER_KILL = 10


def kill_once(training, generator, while_saving):
    """Start the training, kill it and look at what is left.

    Returns:
        Whether a checkpoint was being written, and the steps that were logged since the last whole one.
    """
    before, incomplete = training.states()[-1:] or [0], training.incomplete()
    processes = training.start()
    first = processes[0].output
    if while_saving:
        wait_until(lambda: training.incomplete() - incomplete, processes)
        time.sleep(generator.uniform(0, 0.004))
    elif generator.random() < 0.2:
        time.sleep(generator.uniform(0, 1))
    else:
        wait_until(lambda: "Start training" in first.read_text(), processes)
        time.sleep(generator.uniform(0, 1))
    assert not any(process.has_ended() for process in processes), first.read_text()
    for process in generator.sample(processes, len(processes)):
        process.send(signal.SIGKILL)
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * len(processes)
    steps = logged_steps(first.read_text())
    assert not steps or steps[0] == before[-1] + 1, "it went on elsewhere than at the last whole checkpoint"
    was_saving = bool(training.incomplete() - incomplete)
    last, whole = max(steps, default=before[-1]), (training.states()[-1:] or [0])[-1]
    assert whole >= last // SAVE_INTERVAL * SAVE_INTERVAL - SAVE_INTERVAL, "more than one checkpoint is missing"
    return was_saving, last - whole


def campaign(starter, folder, workers, ranks, kills, seed):
    """Kill a training so many times, let it end, and compare it with one that was left alone; returns what is wrong."""
    generator = random.Random(seed)
    options = {
        "train__total_iter": STEPS_PER_KILL * kills,
        "datasets__train__num_worker_per_gpu": workers,
        "datasets__train__persistent_workers": bool(workers),
    }
    undisturbed = Training(starter, folder / "undisturbed", ranks, **options)
    undisturbed.run()
    training = Training(starter, folder / "killed", ranks, **options)
    began = time.monotonic()
    outcomes = [kill_once(training, generator, number % 3 == 0) for number in range(kills)]
    training.run()
    lost = [steps for _, steps in outcomes]
    wrong = differences(undisturbed.result(), training.result())
    print(
        f"{workers} workers, {ranks} process(es): {kills} kills, {sum(saving for saving, _ in outcomes)} while a "
        f"checkpoint was written, at most {max(lost)} steps lost with one saved every {SAVE_INTERVAL} "
        f"({sum(steps > SAVE_INTERVAL for steps in lost)} kills lost more), "
        f"{time.monotonic() - began:.0f} s; differences to the undisturbed training: {wrong or 'none'}",
        flush=True,
    )
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of all settings together (default: 100)")
    parser.add_argument("--setting", type=int, choices=range(len(SETTINGS)), help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = SETTINGS if arguments.setting is None else [SETTINGS[arguments.setting]]
    wrong = []
    with tempfile.TemporaryDirectory() as folder, Starter() as starter:
        for number, (workers, ranks) in enumerate(chosen):
            kills = arguments.kills * (number + 1) // len(chosen) - arguments.kills * number // len(chosen)
            wrong += campaign(starter, Path(folder, str(number)), workers, ranks, kills, arguments.seed)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
