"""Check and measure everything that needs a GPU, unattended, stage by stage.

make gpu-check

Each stage is a process of its own with a time limit: one that fails, hangs or leaves the GPU in a bad state is a row of
the report, and the rest goes on. A stage that ended well is not repeated when the command is run again with the same
``--out``, unless ``--stage`` names it; a table of latencies that ran out of time goes on where it stopped. What is left
there: ``report.md``, ready for docs/performance.md, ``report.json``, the output and the figures of every stage, and
plots. Without a GPU, the stages that make sense run at a small size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from gpu_stages import Stage, stages_of

from macr_plugin.errors import FREE_DISK_SPACE, InputError, one_line_errors
from macr_plugin.filesystem.atomic import atomic_write

#: Seconds that a stage may take.
LIMIT = 540

State = Literal["passed", "failed", "timed out", "not run"]


@dataclass
class Outcome:
    """How a stage ended.

    Attributes:
        name: Name of the stage.
        state: How it ended.
        seconds: How long it ran.
        command: What was run.
        reason: Last line that it printed where it did not pass.
    """

    name: str
    state: State
    seconds: float
    command: list[str]
    reason: str = ""


# --- running ---------------------------------------------------------------------------------------------------------


def run_stage(stage: Stage, out: Path, limit: float) -> Outcome:
    """Run a stage in a process of its own, and end it and all of its children at the limit.

    Args:
        stage: What to run.
        out: Folder of the whole check; the stage has one of its name in it.
        limit: Seconds.
    """
    folder = out / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    command = [part.replace("{out}", str(folder)) for part in stage.command]
    start = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        state = wait_for(command, output, limit)
    seconds = time.monotonic() - start
    lines = (folder / "output.txt").read_text(errors="replace").strip().splitlines()
    reason = "" if state == "passed" else (f"after {limit:.0f} s" if state == "timed out" else "".join(lines[-1:]))
    outcome = Outcome(stage.name, state, seconds, command, reason)
    write_json(folder / "outcome.json", asdict(outcome))
    return outcome


def wait_for(command: Sequence[str], output: TextIO, limit: float) -> State:
    """Run a command to its end, or to the limit."""
    try:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        print(error, file=output)
        return "failed"
    try:
        return "failed" if process.wait(limit) else "passed"
    except subprocess.TimeoutExpired:
        return "timed out"
    finally:
        # Children too: workers of a loader would go on holding the GPU.
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started; nothing happens where they have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_outcome(stage: Stage, out: Path) -> Outcome:
    """How a stage ended in an earlier run."""
    path = out / stage.name / "outcome.json"
    if not path.is_file():
        return Outcome(stage.name, "not run", 0, list(stage.command))
    return Outcome(**json.loads(path.read_text()))


def write_json(path: Path, content: Any) -> None:
    with atomic_write(path, FREE_DISK_SPACE) as file:
        file.write((json.dumps(content, indent=2, default=str) + "\n").encode())


# --- report ----------------------------------------------------------------------------------------------------------


def table_of(output: str) -> str:
    """The Markdown tables in what a stage printed, with the lines before them that say what they are."""
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("|")), None)
    if first is None:
        return ""
    kept = lines[first:]
    last = max(number for number, line in enumerate(kept) if line.startswith("|"))
    return "\n".join(line for line in kept[: last + 1] if line.startswith("|") or line.startswith("Batch") or not line)


def write_report(stages: Sequence[Stage], outcomes: Sequence[Outcome], out: Path, machine: str) -> None:
    """Write ``report.md`` and ``report.json`` from what the stages left."""
    lines = [f"{machine}\n", "| Stage | Ended | Seconds | |", "|---|---|---:|---|"]
    for stage, outcome in zip(stages, outcomes, strict=True):
        reason = outcome.reason.replace("|", "\\|")[:160]
        lines.append(f"| {stage.title} | {outcome.state} | {outcome.seconds:.0f} | {reason} |")
    figures: dict[str, Any] = {}
    for stage, outcome in zip(stages, outcomes, strict=True):
        folder = out / stage.name
        if outcome.state != "passed":
            continue
        if (folder / "figures.json").is_file():
            figures[stage.name] = json.loads((folder / "figures.json").read_text())
        output = (folder / "output.txt").read_text(errors="replace")
        body = table_of(output) or "".join(output.strip().splitlines()[-1:])
        lines += ["", f"### {stage.title}", "", body]
        if (folder / "plot.png").is_file():
            lines += ["", f"![{stage.title}]({stage.name}/plot.png)"]
    with atomic_write(out / "report.md", FREE_DISK_SPACE) as file:
        file.write(("\n".join(lines) + "\n").encode())
    stages_json = [{"title": stage.title, **asdict(outcome)} for stage, outcome in zip(stages, outcomes, strict=True)]
    write_json(out / "report.json", {"machine": machine, "stages": stages_json, "figures": figures})


DESCRIBE = """
import json, os, platform, torch
gpu = torch.cuda.is_available()
device = f"no GPU, {os.cpu_count()} cores, {platform.machine()}"
if gpu:
    cudnn = torch.backends.cudnn.version()
    device = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
print(json.dumps([gpu, f"{device}; Python {platform.python_version()}, torch {torch.__version__}."]))
"""


def find_machine() -> tuple[bool, str]:
    """Whether there is a GPU, and device and versions in one line; asked in a process that lets go of the GPU again."""
    answer = subprocess.run([sys.executable, "-c", DESCRIBE], capture_output=True, text=True, check=True)
    has_gpu, description = json.loads(answer.stdout.splitlines()[-1])
    return has_gpu, description


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the report (default: gpu_check)")
    parser.add_argument("--stage", nargs="+", help="run these only, whether they have run before or not")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of a stage (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="name the stages and stop")
    parser.add_argument("--import", dest="imports", type=Path, action="append", default=[], help="file of a network")
    parser.add_argument("--network", metavar="JSON", help="options of the imported network, with type")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 1 if a stage did not pass."""
    options = parse_arguments(arguments)
    has_gpu, machine = find_machine()
    stages = stages_of(has_gpu, options.imports, options.network)
    if options.list:
        print("\n".join(f"{stage.name:30} {stage.title}" for stage in stages))
        return 0
    return check(stages, options.out, options.stage, options.limit, machine)


def check(stages: Sequence[Stage], out: Path, chosen: Sequence[str] | None, limit: float, machine: str) -> int:
    """Run the stages that are due, and write the report after each.

    Args:
        stages: All stages.
        out: Folder of the report.
        chosen: Names of those to run; None for all that did not pass before.
        limit: Seconds of each.
        machine: Device and versions, for the report.

    Returns:
        1 if a stage did not pass, else 0.

    Raises:
        InputError: If ``chosen`` names no stage.
    """
    unknown = set(chosen or ()) - {stage.name for stage in stages}
    if unknown:
        raise InputError(f"--stage {' '.join(sorted(unknown))}: there is no such stage: --list names them")
    out.mkdir(parents=True, exist_ok=True)
    outcomes = [read_outcome(stage, out) for stage in stages]
    for number, stage in enumerate(stages):
        due = stage.name in chosen if chosen else outcomes[number].state != "passed"
        if due:
            if outcomes[number].state in ("passed", "failed"):
                # One that was ended may go on with its figures; any other starts afresh.
                (out / stage.name / "figures.json").unlink(missing_ok=True)
            print(f"{stage.title} ...", flush=True)
            outcome = outcomes[number] = run_stage(stage, out, limit)
            print(f"  {outcome.state} after {outcome.seconds:.0f} s {outcome.reason}", flush=True)
            write_report(stages, outcomes, out, machine)
    write_report(stages, outcomes, out, machine)
    print(f"{out / 'report.md'} holds the report")
    return int(any(outcome.state != "passed" for outcome in outcomes))


if __name__ == "__main__":
    with one_line_errors("gpu_check"):
        sys.exit(main())
