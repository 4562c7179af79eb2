import importlib
import sys
from pathlib import Path

import pytest

from macr_plugin.errors import InputError
from macr_plugin.user_modules import import_files, take_imports


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
    arguments = ["train", "--import", "a.py", "-opt", "x.yml", "--import=b.py", "--force_yml", "a=1", "b=-1"]
    assert take_imports(arguments) == [Path("a.py"), Path("b.py")]
    assert arguments == ["train", "-opt", "x.yml", "--force_yml", "a=1", "b=-1"]


@pytest.mark.parametrize("arguments", [["--import"], ["--import="], ["--import", "-opt", "x.yml"]])
def test_an_import_of_nothing_is_refused(arguments):
    with pytest.raises(InputError, match="--import names no file"):
        take_imports(["train", *arguments])


@pytest.mark.parametrize("module", ["macr_plugin.train", "macr_plugin.test"])
@pytest.mark.parametrize("spelling", [["--import", "no.py"], ["--import=no.py"]])
def test_training_and_test_import_files(monkeypatch, capsys, module, spelling):
    program = importlib.import_module(module)
    monkeypatch.setattr(program, "patch_this_program", lambda: None)
    monkeypatch.setattr(sys, "argv", [module, "-opt", "x.yml", *spelling])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert "no.py: there is no such Python file" in capsys.readouterr().err
