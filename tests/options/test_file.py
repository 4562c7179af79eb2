"""Option files that cannot be read."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from macr_plugin.errors import InputError
from macr_plugin.options import file as option_file

#: Nine lists, each of eight times the one before.
ALIASES = "\n".join(
    ["a: &a [x]", *(f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]" for old, new in pairwise("abcdefghi"))]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", ":1:8: is not plain YAML: while parsing a flow node"),
        ("name: a\n\tscale: 1\n", ":2:1: is not plain YAML: while scanning for the next token"),
        ("name: a\nscale: b: c\n", ":2:9: is not plain YAML: mapping values are not allowed here"),
        ("name: *gone\n", ":1:7: is not plain YAML: found undefined alias 'gone'"),
        ("name: a\n---\nname: b\n", ":2:1: is not plain YAML: expected a single document"),
        ("name: 2026-99-99\n", " is not plain YAML: month must be in 1..12"),
        ("[a]: b\n", ":1:1: is not plain YAML: while constructing a mapping; found unhashable key"),
        ("a: &a\n  b: *a\n", " is not plain YAML: a block holds itself"),
        ("[" * 3000, " is not plain YAML: a block holds itself, or blocks are too deep"),
        (ALIASES, " is not plain YAML: its aliases make it too long"),
        ("- a\n- b\n", " has no keys"),
        ("", " has no keys"),
        ("name: !!python/object/apply:os.mkdir [made_by_yaml]\n", ":1:7: is not plain YAML"),
    ],
)
def test_unusable_option_file(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.yml").write_text(text)
    with pytest.raises(InputError, match=re.escape(f"bad.yml{message}")):
        option_file.read_options(Path("bad.yml"))
    assert not Path("made_by_yaml").exists()


def test_an_option_file_in_another_encoding(tmp_path):
    path = tmp_path / "latin.yml"
    path.write_bytes("name: flou-été\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.yml is not plain YAML: byte 11 is no UTF-8"):
        option_file.read_options(path)


def test_aliases_may_stand_for_a_block_many_times(tmp_path):
    path = tmp_path / "aliases.yml"
    path.write_text("a: &a {x: 1}\n" + "".join(f"b{number}: *a\n" for number in range(500)))
    assert option_file.read_options(path)["b499"] == {"x": 1}


def test_absent_option_file():
    with pytest.raises(InputError, match=r"absent.yml: No such file"):
        option_file.read_options(Path("absent.yml"))
