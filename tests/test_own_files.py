import sys
from pathlib import Path

import pytest

from macr_plugin.errors import InputError
from macr_plugin.own_files import import_files, take_imports


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "a_file_of_ones_own.py"
    path.write_text("SERIAL = object()\n")
    yield path
    sys.modules.pop("a_file_of_ones_own", None)


def test_a_file_is_imported_once_under_its_name(own_file, monkeypatch):
    import_files([own_file])
    serial = sys.modules["a_file_of_ones_own"].SERIAL
    monkeypatch.chdir(own_file.parent)
    import_files([Path(own_file.name)])
    assert sys.modules["a_file_of_ones_own"].SERIAL is serial


def test_mistakes_are_named(tmp_path):
    with pytest.raises(InputError, match=r"--import .*nowhere.py: there is no such Python file"):
        import_files([tmp_path / "nowhere.py"])
    broken = tmp_path / "broken_file.py"
    broken.write_text("import torch\nraise KeyError('x')\n")
    with pytest.raises(InputError, match=r"broken_file.py: KeyError: 'x'"):
        import_files([broken])
    assert "broken_file" not in sys.modules
    taken = tmp_path / "json.py"
    taken.write_text("")
    with pytest.raises(InputError, match="a module named json is imported already: rename the file"):
        import_files([taken])


def test_imports_are_taken_out_of_the_arguments():
    arguments = ["train", "--import", "a.py", "-opt", "x.yml", "--import", "b.py"]
    assert take_imports(arguments) == [Path("a.py"), Path("b.py")]
    assert arguments == ["train", "-opt", "x.yml"]
    with pytest.raises(InputError, match="--import names no file"):
        take_imports(["train", "--import"])
