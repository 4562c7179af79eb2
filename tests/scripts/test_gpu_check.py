"""The check of a GPU: stages that fail, hang or are interrupted, and the whole of it at a small size on the CPU."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from macr_plugin.errors import InputError

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import gpu_check  # noqa: E402
from gpu_stages import Stage, files_of_cuda_tests, stages_of  # noqa: E402

GOOD = Stage(
    "good", "A good one", ("sh", "-c", "echo started >> {out}/runs; printf 'text\\n| a |\\n|---|\\n| 1 |\\nmore\\n'")
)
BAD = Stage("bad", "A bad one", ("sh", "-c", "echo out of memory; exit 3"))
LAST = Stage(
    "last", "The last one", ("sh", "-c", "echo 4 passed; echo '[1, 2]' > {out}/figures.json; touch {out}/plot.png")
)


def check(stages, out, chosen=None, limit=20):
    return gpu_check.check(stages, out, chosen, limit, "a machine")


def states(out):
    report = json.loads((out / "report.json").read_text())
    return {stage["name"]: stage["state"] for stage in report["stages"]}


def test_a_failed_stage_is_a_row_and_the_rest_goes_on(tmp_path):
    assert check([GOOD, BAD, LAST], tmp_path) == 1
    assert states(tmp_path) == {"good": "passed", "bad": "failed", "last": "passed"}
    report = (tmp_path / "report.md").read_text()
    assert "| A bad one | failed | 0 | out of memory |" in report
    assert "### A good one\n\n| a |\n|---|\n| 1 |\n" in report
    assert "4 passed" in report
    assert "![The last one](last/plot.png)" in report
    assert json.loads((tmp_path / "report.json").read_text())["figures"] == {"last": [1, 2]}


def test_a_stage_that_hangs_ends_with_all_its_children(tmp_path):
    hangs = Stage("hangs", "It hangs", ("sh", "-c", "sleep 60 & echo $! > {out}/child; wait"))
    start = time.monotonic()
    assert check([hangs, LAST], tmp_path, limit=0.5) == 1
    assert time.monotonic() - start < 20
    assert states(tmp_path) == {"hangs": "timed out", "last": "passed"}
    child = int((tmp_path / "hangs" / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "a child lives on"
        time.sleep(0.05)


def test_what_passed_is_not_repeated_unless_it_is_named(tmp_path):
    flag = tmp_path / "repaired"
    repaired = Stage("bad", "A bad one", ("sh", "-c", f"test -e {flag}"))
    check([GOOD, repaired], tmp_path)
    flag.touch()
    assert check([GOOD, repaired], tmp_path) == 0
    assert (tmp_path / "good" / "runs").read_text() == "started\n"
    assert states(tmp_path) == {"good": "passed", "bad": "passed"}
    check([GOOD, repaired], tmp_path, ["good"])
    assert (tmp_path / "good" / "runs").read_text() == "started\n" * 2


def test_figures_of_a_stage_that_was_ended_stay_for_its_next_run_and_others_go(tmp_path):
    figures = tmp_path / "stage" / "figures.json"
    slow = Stage("stage", "S", ("sh", "-c", f"test -e {figures} || {{ echo 1 > {figures}; sleep 30; }}"))
    assert check([slow], tmp_path, limit=1) == 1
    assert states(tmp_path) == {"stage": "timed out"}
    assert check([slow], tmp_path) == 0
    again = Stage("stage", "S", ("sh", "-c", f"test ! -e {figures}"))
    assert check([again], tmp_path, ["stage"]) == 0


def test_tests_for_a_gpu_are_found_without_the_other_files():
    files = files_of_cuda_tests()
    assert SCRIPTS.parent / "tests" / "models" / "test_training_step.py" in files
    assert SCRIPTS.parent / "tests" / "cli" / "test_cli.py" not in files


def test_a_named_stage_runs_alone_and_the_report_says_so(tmp_path):
    assert check([GOOD, LAST], tmp_path, ["last"]) == 1
    assert states(tmp_path) == {"good": "not run", "last": "passed"}


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(InputError, match="--stage typo: there is no such stage: --list names them"):
        check([GOOD], tmp_path, ["typo"])


def test_a_program_that_is_not_there_is_a_row(tmp_path):
    assert check([Stage("missing", "Missing", ("/no/such/program",)), LAST], tmp_path) == 1
    assert states(tmp_path) == {"missing": "failed", "last": "passed"}


def test_an_interrupted_check_goes_on(tmp_path):
    """Killed while a stage runs: that stage has no outcome, and is run again."""
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import gpu_check; from pathlib import Path\n"
        "from gpu_stages import Stage\n"
        f"gpu_check.check([Stage(*{tuple(vars(GOOD).values())!r}), Stage('slow', 'S', ('sleep', '30'))], "
        f"Path({str(tmp_path)!r}), None, 60, 'a machine')"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / "slow" / "output.txt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, 9)
    process.wait()
    assert check([GOOD, Stage("slow", "S", ("true",))], tmp_path) == 0
    assert (tmp_path / "good" / "runs").read_text() == "started\n"


@pytest.mark.parametrize("has_gpu", [True, False])
def test_every_stage_calls_what_is_there(has_gpu):
    """Each script takes the arguments that it is given, and each test file exists."""
    stages = stages_of(has_gpu, [Path("net.py")], '{"type": "Net"}')
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        program, *arguments = stage.command[1:]
        if program == "-m":
            assert all(Path(part).exists() for part in arguments if part.endswith(".py"))
            continue
        module = __import__(Path(program).stem)
        parsed = module.parse_arguments([part.replace("{out}", "somewhere") for part in arguments])
        assert parsed.json == Path("somewhere/figures.json")
    assert stages[0].name == "captures", "what may poison a process is tried first, in one of its own"


def test_the_stages_of_a_gpu_cover_everything():
    titles = " ".join(stage.title for stage in stages_of(True, [Path("net.py")], '{"type": "Net"}'))
    for part in (
        "Captures",
        "never wait",
        "Tests",
        "Numerics",
        "batch 2",
        "batch 16",
        "Whole training loop",
        "Validation",
    ):
        assert part in titles
    for network in ("MACR", "SRN", "DeepDeblur", "NAFNet-32", "NAFNet-64", "Restormer", "MIMO-UNet", "imported"):
        for mode in ("eager", "compiled", "cuda_graph", "optimized") if network != "imported" else ("network",):
            assert f"Latency of {network}, {mode}" in titles or f"{network} {mode}" in titles


@pytest.mark.slow
def test_the_whole_check_without_a_gpu(tmp_path):
    """As a user runs it, at a small size, to its end."""
    pytest.importorskip("matplotlib")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPTS / "gpu_check.py"), "--out", str(tmp_path / "out")]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    report = (tmp_path / "out" / "report.md").read_text()
    assert process.returncode == 0, process.stdout + report
    assert set(states(tmp_path / "out").values()) == {"passed"}
    assert "| MACR | 4.01 |" in report
    assert "operations a step" in report
    for stage in ("steps", "latency-curve"):
        assert (tmp_path / "out" / stage / "plot.png").stat().st_size > 5000
    figures = json.loads((tmp_path / "out" / "report.json").read_text())["figures"]
    assert all(row["peak_memory_mib"] > 0 for row in figures["latency-curve"]["rows"])
    assert {row["mode"] for row in figures["latency"]["rows"]} == {"eager", "optimized"}
