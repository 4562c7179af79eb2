"""The site of the documentation: built without a warning, with everything public in its reference."""

import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import macr_plugin

REPOSITORY = Path(__file__).parents[1]
PUBLIC_CONSTANT = re.compile(r"^#: .*\n(?:#.*\n)*([A-Za-z]\w*)", re.MULTILINE)


def public_names():
    """Full names of the public modules and of what each defines: classes, their methods, functions, and constants
    that are marked as public by ``#:``."""
    for found in pkgutil.walk_packages(macr_plugin.__path__, "macr_plugin."):
        if any(part.startswith("_") for part in found.name.split(".")):
            continue
        module = importlib.import_module(found.name)
        yield found.name
        for name, value in vars(module).items():
            is_own = getattr(value, "__module__", None) == found.name
            if is_own and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                yield f"{found.name}.{name}"
                yield from (f"{found.name}.{name}.{method}" for method in public_methods(value))
        constants = PUBLIC_CONSTANT.findall(Path(module.__file__).read_text())
        exported = getattr(module, "__all__", constants)
        yield from (f"{found.name}.{constant}" for constant in constants if constant in exported)


def public_methods(value):
    """Names of the methods and properties that a class itself defines; none for a function."""
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name


@pytest.mark.slow
def test_the_site_is_whole(tmp_path):
    pytest.importorskip("furo")
    source, site = tmp_path / "docs", tmp_path / "site"
    shutil.copytree(REPOSITORY / "docs", source, ignore=shutil.ignore_patterns("_api", "_build"))
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(source), str(site)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    reference = "".join(page.read_text() for page in (site / "_api").glob("*.html"))
    missing = [
        name for name in public_names() if f'id="{name}"' not in reference and f'id="module-{name}"' not in reference
    ]
    assert not missing
    for page in ("index", "deblur", "weights", "training", "benchmark", "api"):
        assert "https://fonts" not in (site / f"{page}.html").read_text()
