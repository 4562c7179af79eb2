"""The commands as users type them, on bad options: a line for each mistake, status 2, nothing made, no code run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMMANDS = ["basicsr.train", "macr_plugin.train", "basicsr.test", "macr_plugin.test"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]


@pytest.fixture
def is_untouched(working_folder):
    """Whether a command has left the current folder as it was."""
    before = {path.name for path in working_folder.iterdir()}
    return lambda *allowed: {path.name for path in working_folder.iterdir()} == before | set(allowed)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("name=[__import__('os').mkdir('evil')]", "it must be text"),
        ("name=../../evil", "name: is '../../evil': it must be the name of one folder"),
        ('name"];__import__("os").mkdir("evil");opt["name=1', "write the keys as words"),
        ("trian:lr=1", "the option file has no block trian"),
    ],
)
def test_a_forced_value_runs_no_code_and_leads_nowhere(tiny_options, run_python, is_untouched, entry, message):
    options = tiny_options()
    # All at once: they mostly import, and none of them may write.
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run_python, "-m", name, "-opt", options, "--force_yml", entry) for name in COMMANDS]
    for status, output in (run.result() for run in runs):
        assert status == 2, output
        assert "Traceback" not in output
        (line,) = [line for line in output.splitlines() if ": error: " in line]
        assert message in line
    assert is_untouched(options)
    assert not Path("..", "..", "evil").exists()


@pytest.mark.parametrize("command", ["basicsr.train", "macr_plugin.train"])
def test_several_processes_name_each_mistake_once(tiny_options, run_python, is_untouched, command):
    options = tiny_options(train__ema_decay=3, logger__print_freq=0)
    status, output = run_python(*TORCHRUN, command, "-opt", options, "--launcher", "pytorch")
    assert status != 0
    assert output.count("train.ema_decay: is 3: it must be less than 1") == 1, output
    assert output.count("logger.print_freq: is 0: it must be greater than or equal to 1") == 1
    assert is_untouched(options)
