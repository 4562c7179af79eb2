import pytest

from macr_plugin.cli import main


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refusal(capsys):
    """Run a command on bad input; its message, which is one line."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("macr: error: ")
        assert message.count("\n") == 1
        return message

    return run
