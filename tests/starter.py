"""Starts programs without the seconds of importing torch: imports once, then forks a process for each.

Reads requests, one JSON object a line, and answers each with one: ``start`` (program, working folder, arguments,
environment and file for the output) with the process number, ``reap`` (a process that has ended) with its status as
``subprocess`` counts it. A forked process goes on as ``python -m macr_plugin.train`` or ``.test`` does, to the normal
end of an interpreter.
"""

import json
import os
import signal
import sys

import basicsr.train  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

from macr_plugin import test, train

PROGRAMS = {"train": train, "test": test}


def become_program(request):
    os.setsid()
    # Tests that run in the background ignore them, and a training leaves alone what it was told to ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    program = PROGRAMS[request["program"]]
    sys.modules["__main__"].__spec__ = program.__spec__
    sys.argv[:] = [program.__file__, *request["arguments"]]
    program.main()


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                become_program(request)
                return
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
