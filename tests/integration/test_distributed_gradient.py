"""N processes with batch b take the step of one process with batch N * b."""

from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("gradient_of_processes.py")


@pytest.mark.parametrize("averages_itself", [0, 1], ids=["DistributedDataParallel", "own average"])
def test_two_processes_take_the_step_of_one(tmp_path, run_python, averages_itself):
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(4, 3, 48, 48, generator=generator) for name in ("lq", "gt")}
    torch.save(batch, tmp_path / "batch.pt")
    for processes in (1, 2):
        torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=29523"]
        arguments = [str(tmp_path / "batch.pt"), str(tmp_path), str(averages_itself)]
        status, output = run_python(*torchrun, str(PROGRAM), *arguments)
        assert status == 0, output
    names = ("1_0", "2_0", "2_1")
    alone, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in names)
    for one, other in zip(first["weights"], second["weights"], strict=True):
        assert torch.equal(one, other)
    for expected, one in zip(alone["gradient"], first["gradient"], strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-3, atol=1e-7)
    assert first["log"]["l_pix"] == pytest.approx(alone["log"]["l_pix"], rel=1e-5), "the mean over the processes"
