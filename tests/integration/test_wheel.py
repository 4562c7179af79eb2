"""The wheel in a new environment, as somebody uses it who has just read the README."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from macr_plugin import Deblurrer

REPOSITORY = Path(__file__).parents[2]
#: Where no namespace of its own can cut the network off, Python is kept from it.
NO_NETWORK = """
import socket

def refuse(*arguments):
    raise OSError("no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Folder of a new virtual environment with the wheel; other packages are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "venv"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "macr_plugin.pth", "MANIFEST.in"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "macr_plugin", source / "macr_plugin")
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
    pip = [sys.executable, "-m", "pip", "--python", target / "bin" / "python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", wheel], check=True, capture_output=True)
    shutil.rmtree(source)
    (packages,) = target.glob("lib/python*/site-packages")
    # The folder is searched; its own .pth files, such as that of an editable install, are not run.
    others = Path(sysconfig.get_path("purelib"))
    # All but that of setuptools, which a real installation has too: it brings distutils back to Python 3.12.
    distutils = (others / "distutils-precedence.pth").read_text()
    (packages / "others.pth").write_text(f"{others}\n{distutils}")
    (packages / "sitecustomize.py").write_text(NO_NETWORK)
    return target


def run(environment, folder, *command):
    """What a command says that runs in the environment, without a network and without a variable of ours."""
    unshare = ["unshare", "--map-root-user", "--net"]
    probe = shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*(unshare if probe == 0 else []), *command],
        cwd=folder,
        env={**variables, "PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_readme_s_lines_deblur_a_photo(environment, tmp_path):
    section = (REPOSITORY / "README.md").read_text().split("## Deblur a photo")[1].split("\n## ")[0]
    shell, python = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)[:2]
    commands = [line.split("#")[0].split() for line in shell.splitlines() if line.startswith("macr ")]
    assert commands[0] == ["macr", "deblur", "photo.jpg"]
    photo, exif = np.ascontiguousarray(skimage.data.astronaut()[:96, 100:230]), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    (tmp_path / "holiday/beach").mkdir(parents=True)
    Image.fromarray(photo).save(tmp_path / "holiday/beach/a.png")
    for command in commands:
        assert run(environment, tmp_path, *command).startswith("1 done, 0 skipped, 0 failed")
    with Image.open(tmp_path / "deblurred/photo.jpg") as image:
        assert image.size == (96, 130)
        assert image.getexif()[0x010F] == "Maker"
    expected = Deblurrer().restore(photo)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sharp/beach/a.png")), expected)
    assert (tmp_path / "sharp/beach/a_compare.png").is_file()
    (tmp_path / "photo.py").write_text(
        f"import numpy as np\nfrom PIL import Image\nimage = np.asarray(Image.open('holiday/beach/a.png'))\n{python}"
        "Image.fromarray(sharp).save('python.png')\nimport macr_plugin\nprint(macr_plugin.__file__)\n"
    )
    said = run(environment, tmp_path, "python", "photo.py")
    assert Path(said.strip()).is_relative_to(environment)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "python.png")), expected)
    with Image.open(tmp_path / "sharp.jpg") as image:
        assert image.size == (96, 130)
