"""Real programs of the plugin that start at once: forks of a process that has torch and BasicSR imported."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


class Starter:
    """Starts programs by forking one process that has torch imported."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("starter.py"))],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait()

    def ask(self, request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, folder, arguments, output, program="train", **environment):
        request = {"program": program, "folder": str(folder), "arguments": arguments, "output": str(output)}
        return Process(self, self.ask({**request, "environment": environment}), output)

    def start_ranks(self, folder, arguments, outputs):
        """Start a training of as many processes as there are files for their output; gloo connects several."""
        if len(outputs) == 1:
            return [self.start(folder, arguments, outputs[0])]
        arguments = [*arguments, "--launcher", "pytorch"]
        environment = {"WORLD_SIZE": str(len(outputs)), "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
        return [
            self.start(folder, arguments, output, RANK=str(rank), LOCAL_RANK=str(rank), **environment)
            for rank, output in enumerate(outputs)
        ]


class Process:
    """A started program, the leader of a process group of its own."""

    def __init__(self, starter, number, output):
        self.number, self.output = number, output
        output.touch()
        self._starter, self._descriptor = starter, os.pidfd_open(number)

    def has_ended(self, timeout=0.0):
        return bool(select.select([self._descriptor], [], [], timeout)[0])

    def send(self, signal_number):
        """Send a signal to this process alone."""
        signal.pidfd_send_signal(self._descriptor, signal_number)

    def wait(self, timeout=120):
        """The status with which it ends, negative for a signal that it did not handle."""
        if not self.has_ended(timeout):
            os.killpg(self.number, signal.SIGKILL)
            raise AssertionError(f"still running after {timeout} s:\n{self.output.read_text()}")
        os.close(self._descriptor)
        return self._starter.ask({"reap": self.number})


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_until(condition, processes, timeout=120):
    """Wait for a condition, or until a process has ended; returns whether the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if any(process.has_ended() for process in processes):
            return False
        assert time.monotonic() < deadline, processes[0].output.read_text()
        time.sleep(0.001)
    return True
