import pytest

from macr_plugin.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: -opt"),
        (("-opt", "nowhere.yml"), "macr: error: nowhere.yml: No such file or directory"),
        (("-opt", "x.yml", "--train-iters", "3", "--train-budget", "3s"), "not allowed with argument --train-iters"),
        (("-opt", "x.yml", "--train-budget", "soon"), "macr: error: --train-budget soon is no time"),
    ],
)
def test_mistakes_on_the_command_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
