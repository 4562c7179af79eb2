"""The command line: launcher's rank, values given there."""

from pathlib import Path

import pytest

from macr_plugin.basicsr_compat import command_line
from macr_plugin.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("!!float 1e-4", 1e-4),
        ("-1", -1),
        ("+2", 2),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("1E+3", 1000.0),
        ("7", 7),
        ("!!float 7", 7.0),
        ("~", None),
        ("None", None),
        ("True", True),
        ("[1e-4, -1]", [1e-4, -1]),
        ("[None, 'a']", [None, "a"]),
        ("[a, b]", ["a", "b"]),
        ("a/b.pth", "a/b.pth"),
        ("1e-4x", "1e-4x"),
        ("e5", "e5"),
    ],
)
def test_forced_values(run, patch_options, text, value):
    command_line.patch_forced_values()
    patch_options()
    forced = run(None, ["--force_yml", f"logger:given={text}"])["logger"]["given"]
    assert forced == value
    assert type(forced) is type(value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("name", "write key=value with one ="),
        ("name=a=b", "write key=value with one ="),
        ("=a", "write the keys as words"),
        ("train::lr=1", "write the keys as words"),
        ("trian:lr=1", "the option file has no block trian"),
        ("name:first=1", "the option file has no block name"),
        ("logger:print_freq=[1, 2", "no list"),
        ('name"];open("made_by_key","w");opt["name=1', "write the keys as words"),
        ("logger:print_freq=[open('made_by_value', 'w')]", "no list"),
    ],
)
def test_entries_that_cannot_be_taken(run, patch_options, tmp_path, entry, message):
    command_line.patch_forced_values()
    patch_options()
    with pytest.raises(InputError, match="--force_yml") as error:
        run(arguments=["--force_yml", "manual_seed=1", entry])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in Path(tmp_path).iterdir() if path.name.startswith("made_by")]


@pytest.mark.parametrize("arguments", [["--local-rank=0"], ["--local-rank", "0"], ["--local_rank=0"]])
def test_the_rank_of_every_launcher_is_taken(run, patch_options, arguments):
    patch_options()
    assert run(arguments=arguments)["rank"] == 0
