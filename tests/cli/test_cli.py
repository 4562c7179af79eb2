"""What all commands share."""

import subprocess
import sys

import pytest

import macr_plugin
from macr_plugin.cli import main


@pytest.mark.parametrize(
    "arguments", [(), ("prepare",), ("synthesize",), ("synthesize", "--demo", "--photos", "x"), ("unknown",)]
)
def test_bad_arguments(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: macr" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"macr {macr_plugin.__version__}\n"


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom macr_plugin.cli import main\n"
        "try:\n    main(['synthesize', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'basicsr', 'skimage'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "--photos" in said
