import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from macr_plugin.inference import memory
from macr_plugin.inference.memory import free_memory, is_out_of_memory, keep_freed_memory

CPU = torch.device("cpu")

# A process of its own, since what its C library is told holds until it ends.
FREES_A_TENSOR = """
import sys
import psutil, torch
from macr_plugin.inference.memory import keep_freed_memory, release_memory

def held():
    return (psutil.Process().memory_info().rss - before) / 2**20

assert sys.argv[1] == "given back" or keep_freed_memory()
before = psutil.Process().memory_info().rss
for _ in range(2):
    torch.ones(int(sys.argv[2]) * 2**18)
freed = held()
release_memory(torch.device("cpu"))
print(freed, held())
"""


@pytest.mark.skipif(not hasattr(memory.ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("memory_is", "mebibytes", "lowest", "highest"),
    [("kept", 64, 60, 150), ("kept", 512, -50, 50), ("given back", 64, -50, 50)],
)
def test_freed_memory_is_kept_until_it_is_released(memory_is, mebibytes, lowest, highest):
    """Glibc may take room for a second tensor before it uses that of the first again; of large ones nothing is kept."""
    process = subprocess.run(
        [sys.executable, "-c", FREES_A_TENSOR, memory_is, str(mebibytes)], capture_output=True, text=True, check=True
    )
    freed, released = map(float, process.stdout.split())
    assert lowest < freed < highest
    assert released < 50


@pytest.mark.parametrize(("free", "largest"), [(2**40, 256 * 2**20), (8 * 2**30, 128 * 2**20), (2**30, 16 * 2**20)])
def test_the_less_memory_the_less_is_kept(monkeypatch, free, largest):
    told = []
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    monkeypatch.setattr(
        memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *option: told.append(option) or 1)
    )
    assert keep_freed_memory()
    assert (-3, largest) in told


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    assert 0 < free_memory(CPU) < 2**50
    (tmp_path / "max").write_text("5000\n")
    (tmp_path / "now").write_text("2000\n")
    monkeypatch.setattr(memory, "CGROUP_FILES", ((str(tmp_path / "max"), str(tmp_path / "now")),))
    assert free_memory(CPU) == 3000
    (tmp_path / "max").write_text("max\n")
    assert free_memory(CPU) > 3000


def test_errors_of_memory():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
