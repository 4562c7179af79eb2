"""What a maintainer finds beside the code: files that are named are there, and versions agree."""

import re
from pathlib import Path

import pytest
import yaml

tomllib = pytest.importorskip("tomllib", reason="from Python 3.11 on")
REPOSITORY = Path(__file__).parents[1]
PACKAGE, TESTS = REPOSITORY / "macr_plugin", REPOSITORY / "tests"
#: Tests of many rooms together: whole trainings, kills and full disks.
CROSSING = {"integration", "faults"}


def test_the_table_of_usual_changes_names_files_that_are_there():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:macr_plugin|options|docs|tests)/[\w/.]*)`", text)
    assert len(named) > 20
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_tests_mirror_the_package():
    """A folder of tests is one of the package, and a file named after a module lies where that module does."""
    rooms = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")} | {Path("scripts")}
    modules = {}
    for folder, prefix in ((PACKAGE, Path()), (REPOSITORY / "scripts", Path("scripts"))):
        for path in folder.rglob("*.py"):
            modules.setdefault(path.stem, set()).add(prefix / path.parent.relative_to(folder))
    for path in TESTS.rglob("test_*.py"):
        folder = path.parent.relative_to(TESTS)
        if folder.name not in CROSSING:
            assert folder in rooms, path
            assert folder in modules.get(path.stem.removeprefix("test_"), {folder}), path


def test_every_ignored_rule_of_security_says_why():
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text().splitlines():
            if re.search(r"# noqa: .*\bS\d{3}", line):
                assert re.search(r"# noqa: S\d{3}  \S+", line), f"{path}: {line}"


def test_the_linter_keeps_code_off_what_users_give():
    ruff = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in ruff["select"]
    assert not [rule for rule in ruff["ignore"] if rule.startswith("S")]
    assert not [path for path in ruff["per-file-ignores"] if path.startswith("macr_plugin")]


@pytest.mark.parametrize(
    "path",
    [".pre-commit-config.yaml", *(p.relative_to(REPOSITORY) for p in REPOSITORY.glob(".github/**/*.yml"))],
    ids=str,
)
def test_workflows_and_templates_are_yaml(path):
    assert yaml.safe_load((REPOSITORY / path).read_text())


def test_versions_agree():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == project["version"]
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/checks.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {version}" in project["classifiers"] for version in tested] == [
        True
    ] * 3
