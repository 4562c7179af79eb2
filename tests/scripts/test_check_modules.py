"""The checks of modules and docstrings that `make lint` runs find what they are for, and nothing else."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import check_modules  # noqa: E402
from generated import stale, write_or_check  # noqa: E402

SHARPEN = '''
def sharpen(pictures: Tensor) -> Tensor:
    """Sharpen pictures.

    Args:
        pictures: {}.
    """
    return pictures
'''


def problems(text, is_package=True):
    return [problem for _, problem in check_modules.problems_of_module(text, is_package)]


@pytest.mark.parametrize(
    "described",
    [
        "Shape (N, 3, H, W), RGB in [0, 1]",
        "uint8 array (height, width, 3)",
        "Features (N, C, H, W) of any value",
        "Places in pixels, shape (K, 2)",
        "Of any shape, float32 in [-0.5, 0.5]",
    ],
)
def test_a_shape_and_a_range_are_enough(described):
    assert problems(SHARPEN.format(described)) == []


@pytest.mark.parametrize(
    ("described", "missing"),
    [
        ("RGB in [0, 1]", ["shape"]),
        ("Shape (N, 3, H, W)", ["range"]),
        ("What a camera saw (or a file, or a video)", ["shape", "range"]),
    ],
)
def test_a_missing_shape_or_range_is_found(described, missing):
    found = problems(SHARPEN.format(described))
    assert [problem.split(",")[0].split(" of ")[0] for problem in found] == [f"sharpen names no {x}" for x in missing]
    assert problems(SHARPEN.format(described), is_package=False) == []


def test_methods_of_public_classes_count_and_private_ones_do_not():
    method = SHARPEN.format("Pictures").replace("\n", "\n    ")
    assert len(problems(f"class Net:{method}")) == 2
    assert problems(f"class _Net:{method}") == []
    assert problems(SHARPEN.format("Pictures").replace("def sharpen", "def _sharpen")) == []
    documented = 'class Net:\n    """A net.\n\n    Shape:\n        (N, 3, H, W) in [0, 1] -> the same\n    """\n'
    forward = '\n    def forward(self, x: Tensor) -> Tensor:\n        """Sharpen."""\n        return x\n'
    assert problems(documented + forward) == []
    assert len(problems(documented + forward.replace("forward", "apply"))) == 2


def test_a_module_of_401_lines_is_too_long():
    assert problems("x = 1\n" * 400) == []
    assert problems("x = 1\n" * 401, is_package=False) == [
        "the module has 401 lines: split it by sense, 400 are the most"
    ]


@pytest.mark.parametrize("line", ["key: Its key.", "key: The key.", "folder: A folder."])
def test_a_line_that_repeats_a_name_is_found(line):
    text = f'def read(key: str) -> None:\n    """Read.\n\n    Args:\n        {line}\n    """\n'
    assert problems(text) == [f"'{line}' says no more than the name"]
    assert problems(text.replace(line, f"{line[:-1]} of the picture.")) == []


def test_six_lines_about_three_are_too_many():
    line = "    Line.\n"
    text = f'def one() -> int:\n    """One.\n\n{line * 5}    """\n    return 1\n'
    assert problems(text) == ["one explains 1 lines in 6"]
    assert problems(text.replace(line, "", 1)) == []


def test_generated_files_are_compared_and_written(tmp_path, monkeypatch):
    contents = {tmp_path / "a": "old", tmp_path / "b": "text"}
    (tmp_path / "a").write_text("new")
    assert stale(contents) == [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setattr(sys, "argv", ["write_options.py", "--check"])
    with pytest.raises(SystemExit, match="not current, run `make options`"):
        write_or_check(contents, "Write.")
    assert (tmp_path / "a").read_text() == "new"
    monkeypatch.setattr(sys, "argv", ["write_options.py"])
    write_or_check(contents, "Write.")
    assert stale(contents) == []


def test_this_repository_has_no_problem():
    check_modules.main()
