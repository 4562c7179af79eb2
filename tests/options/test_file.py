"""Option files that cannot be read."""

from pathlib import Path

import pytest

from macr_plugin.errors import InputError
from macr_plugin.options import file as option_file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not plain YAML"),
        ("- a\n- b\n", "has no keys"),
        ("", "has no keys"),
        ("name: !!python/object/apply:os.mkdir [made_by_yaml]\n", "is not plain YAML"),
    ],
)
def test_unusable_option_file(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.yml").write_text(text)
    with pytest.raises(InputError, match=rf"bad.yml {message}"):
        option_file.read_options(Path("bad.yml"))
    assert not Path("made_by_yaml").exists()


def test_absent_option_file():
    with pytest.raises(InputError, match=r"absent.yml: No such file"):
        option_file.read_options(Path("absent.yml"))
