import pickle

import pytest
import torch

from macr_plugin.errors import InputError
from macr_plugin.filesystem.torch_file import read_torch_file


def test_tensors_and_plain_values_come_back(tmp_path):
    torch.save({"iter": 3, "weight": torch.arange(4.0)}, tmp_path / "x.pth")
    content = read_torch_file(tmp_path / "x.pth", "damaged")
    assert content["iter"] == 3
    assert torch.equal(content["weight"], torch.arange(4.0))


@pytest.mark.parametrize("length", [0, 1, 10, 200, -1])
def test_a_file_that_is_cut_off_anywhere(tmp_path, length):
    torch.save({"weight": torch.rand(100)}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:length])
    with pytest.raises(InputError, match=r"x\.pth is damaged: delete it"):
        read_torch_file(tmp_path / "x.pth", "x.pth is damaged: delete it")


def test_no_code_of_a_file_runs(tmp_path):
    class Code:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    (tmp_path / "x.pth").write_bytes(pickle.dumps(Code()))
    with pytest.raises(InputError, match="damaged"):
        read_torch_file(tmp_path / "x.pth", "damaged")
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_keeps_the_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "x.pth", "damaged")
