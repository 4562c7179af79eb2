"""Captures that fail must leave nothing behind: with stand-ins for torch's parts here, with real ones on a GPU."""

import contextlib
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import MagicMock, call

import pytest
import torch

from macr_plugin.models import cuda_graphs
from macr_plugin.models.cuda_graphs import SideStream, capture, notice_waiting

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


class Gpu:
    """Stands in for the parts of torch that a capture touches.

    Args:
        monkeypatch: Puts them in place.
        capture_ends: Whether the end of a capture works; otherwise it fails before the allocator is told, as
            ``cudaStreamEndCapture`` does after an operation that waited.
    """

    def __init__(self, monkeypatch, capture_ends=True):
        self.capture_ends = capture_ends
        self.before = MagicMock(device_index=3, name="stream before")
        self.current = self.before
        self.pool_is_open = False
        self.graph, self.generator = MagicMock(), MagicMock()
        self.arguments = None
        for module, name, value in (
            (torch.cuda, "CUDAGraph", lambda: self.graph),
            (torch.cuda, "graph_pool_handle", lambda: "pool"),
            (torch.cuda, "current_stream", lambda device: self.current),
            (torch.cuda, "set_stream", lambda stream: setattr(self, "current", stream)),
            (torch.cuda, "graph", self.recorder),
            (torch.cuda, "default_generators", {3: self.generator}),
            (torch._C, "_cuda_endAllocateToPool", self.close_pool),
            (torch._C, "_cuda_releasePool", MagicMock()),
        ):
            monkeypatch.setattr(module, name, value, raising=False)

    @contextlib.contextmanager
    def recorder(self, graph, **arguments):
        self.arguments = arguments
        self.current, self.pool_is_open = arguments["stream"], True
        try:
            yield
        finally:
            if not self.capture_ends:
                raise RuntimeError("operation failed due to a previous error during capture")
            self.pool_is_open, self.current = False, self.before

    def close_pool(self, device_index, pool):
        if not self.pool_is_open:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.pool_is_open = False


def side_stream():
    side = SideStream(CPU)
    side.stream = MagicMock(name="side stream")
    return side


def test_a_capture_has_a_pool_and_the_stream_of_the_steps_before(monkeypatch):
    """And other threads may use the GPU: the one that pins batches would break a capture in the global error mode."""
    gpu, side = Gpu(monkeypatch), side_stream()
    output, replay = capture(lambda: "output", side)
    assert gpu.arguments == {"pool": "pool", "stream": side.stream, "capture_error_mode": "thread_local"}
    assert output == "output"
    replay()
    gpu.graph.replay.assert_called_once_with()
    assert gpu.current is gpu.before
    torch._C._cuda_releasePool.assert_not_called()


def test_a_capture_whose_end_fails_restores_stream_allocator_and_random_numbers(monkeypatch):
    gpu = Gpu(monkeypatch, capture_ends=False)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        capture(lambda: None, side_stream())
    assert gpu.current is gpu.before
    assert not gpu.pool_is_open
    assert torch._C._cuda_releasePool.mock_calls == [call(3, "pool")]
    gpu.generator.graphsafe_set_state.assert_called_once_with(gpu.generator.clone_state())


@pytest.mark.parametrize("error", [ValueError("of the function"), KeyboardInterrupt()])
def test_an_error_of_the_function_is_told_and_its_graph_keeps_its_own_pool(monkeypatch, error):
    gpu = Gpu(monkeypatch)

    def fails():
        raise error

    with pytest.raises(type(error)):
        capture(fails, side_stream())
    assert gpu.current is gpu.before
    torch._C._cuda_releasePool.assert_not_called()


def test_older_torch_has_another_name_for_the_end(monkeypatch):
    gpu = Gpu(monkeypatch, capture_ends=False)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateCurrentStreamToPool", gpu.close_pool, raising=False)
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool")
    with pytest.raises(RuntimeError):
        capture(lambda: None, side_stream())
    assert not gpu.pool_is_open


def test_steps_on_the_side_wait_and_are_waited_for(monkeypatch):
    made, current = [], MagicMock()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(MagicMock()) or made[-1])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    side = SideStream(CUDA)
    for _ in range(3):
        with side.current():
            pass
    assert len(made) == 1, "one stream for all steps"
    assert side.stream.wait_stream.mock_calls == [call(current)] * 3
    assert current.wait_stream.mock_calls == [call(side.stream)] * 3


def test_waits_are_noticed_and_other_warnings_told(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with notice_waiting(CUDA) as places:
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in told] == ["something else"]
    assert [Path(place.rpartition(":")[0]).name for place in places] == [Path(__file__).name]
    assert modes == ["warn", 0]


def test_the_mode_comes_back_after_an_error(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with pytest.raises(ValueError, match="of the body"), notice_waiting(CUDA):
        raise ValueError("of the body")
    assert modes == ["warn", 1]


def test_nothing_is_watched_on_a_cpu():
    with notice_waiting(CPU) as places:
        torch.ones(1).item()
    assert places == []


# ----------------------------------------------------------------------------------------------------------------------
# On a GPU
# ----------------------------------------------------------------------------------------------------------------------

FORCED_FAILURE = """
import pytest, torch
from macr_plugin.models.cuda_graphs import SideStream, capture, notice_waiting
device = torch.device("cuda", torch.cuda.current_device())
side, values = SideStream(device), torch.ones(1000, device=device)
with notice_waiting(device) as places:
    values.sum().item()
assert len(places) == 1, places
before = torch.cuda.current_stream()
for _ in range(3):
    with pytest.raises(RuntimeError):
        capture(lambda: values.sum().item(), side)
    assert torch.cuda.current_stream() == before
torch.cuda.empty_cache()
torch.randn(3, device=device)
# Memory that another stream used comes back: with a capture under way for the allocator it never does.
torch.cuda.synchronize()
held = torch.cuda.memory_allocated()
for _ in range(50):
    batch = torch.ones(1 << 20, device=device)
    batch.record_stream(side.stream)
    del batch
torch.cuda.synchronize()
torch.ones(1, device=device)
assert torch.cuda.memory_allocated() < held + (1 << 23), torch.cuda.memory_allocated()
with side.current():
    values * 2
output, replay = capture(lambda: values * 2, side)
values.fill_(3)
replay()
assert output.sum().item() == 6000
print("captured after three failures")
"""


@pytest.mark.cuda
def test_captures_that_fail_harm_nothing_that_follows():
    """In a process of its own: were it harmed, every later test would fail."""
    process = subprocess.run([sys.executable, "-c", FORCED_FAILURE], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "captured after three failures" in process.stdout


def test_the_names_that_a_patched_capture_relies_on_exist():
    assert hasattr(torch._C, "_cuda_releasePool")
    assert hasattr(torch._C, "_cuda_endAllocateToPool") or hasattr(torch._C, "_cuda_endAllocateCurrentStreamToPool")
    assert {"graphsafe_set_state", "clone_state"} <= set(dir(torch.Generator))
    assert cuda_graphs._WAITED == "called a synchronizing CUDA operation"
