import pytest

from macr_plugin.filesystem.staging import staged


def names_in(folder):
    return [entry.name for entry in folder.iterdir()]


def test_staged_replaces_only_on_success(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").write_text("")
    with pytest.raises(RuntimeError), staged(target) as (partial,):  # noqa: PT012
        partial.mkdir()
        raise RuntimeError
    assert names_in(target) == ["old"]
    with staged(target) as (partial,):
        partial.mkdir()
        (partial / "new").write_text("")
    assert names_in(target) == ["new"]
    assert names_in(tmp_path) == ["set"]
