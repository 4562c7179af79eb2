"""Build script of macr-plugin: dependency bounds with their reasons, and the autoload ``.pth`` file.

Everything declarative stands in ``pyproject.toml``.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

PTH_FILE = "macr_plugin.pth"

INSTALL_REQUIRES = [
    # The framework we extend. 1.4.2 is its newest release; basicsr_compat patches that one.
    "basicsr==1.4.2",
    # Before 2.6 a crafted file could run code even under torch.load(weights_only=True) (CVE-2025-32434).
    "torch>=2.6",
    # 0.21 is the torchvision of torch 2.6; 0.17 removed the module that BasicSR imports, which we patch.
    "torchvision>=0.21",
    # First release for Python 3.11 wheels with the typing that we use.
    "numpy>=1.24",
    # BasicSR's niqe.py imports scipy.ndimage.filters, which SciPy 2 removes.
    "scipy>=1.9,<2",
    # Its wheel carries the photographs that the demo data are rendered from.
    "scikit-image>=0.20",
    # 4.10 is the first with numpy 2 wheels.
    "opencv-python>=4.10",
    # Picture files with their EXIF, colour profile and JPEG tables, which OpenCV drops; 11.1 writes XMP too.
    "pillow>=11.1",
    # TIFF files of 16 bit with a colour profile, which neither Pillow nor OpenCV writes; scikit-image needs it anyway.
    "tifffile>=2023.4.12",
    # Free memory, which decides how large a tile may be, on every system.
    "psutil>=5.9",
    # Weights that hold no code, with a record of their network.
    "safetensors>=0.4.3",
    # Storage of the training pairs.
    "lmdb>=1.4",
    # Fills in the benchmark's page, with everything escaped; torch needs it anyway.
    "jinja2>=3.1",
    # YAML options.
    "pyyaml>=6",
    # Describes the options: every mistake in an option file is found at once. 2.7 has the strict mode that we use.
    "pydantic>=2.7,<3",
    # Progress bars.
    "tqdm",
    # BasicSR imports distutils, which Python 3.12 has only through setuptools; TensorBoard's viewer needs
    # pkg_resources, which setuptools 82 removed.
    "setuptools>=77.0.3,<82",
    # Image and video reading and writing. mmcv-lite is mmcv without compiled operators: same import name, installs
    # everywhere. mmcv 2.2 itself cannot be built from the registry today.
    "mmcv-lite>=2.1,<3",
    # Counts multiply-accumulates and runs parallel jobs with progress; mmcv needs it anyway.
    "mmengine>=0.10.4,<1",
]

EXTRAS_REQUIRE = {
    "test": [
        "pytest>=8",
        # Which lines the tests run: make coverage.
        "pytest-cov>=5",
        # Independent reference of the MS-SSIM loss.
        "pytorch-msssim>=1.0",
        # Independent reference of the schemas that editors read.
        "jsonschema>=4.18",
        "ruff>=0.9",
        "mypy>=1.11",
        "types-PyYAML",
        "types-psutil",
    ],
    "benchmark": [
        # Architectures of the other deblurring networks, MIT.
        "spandrel>=0.4",
        # Plots of the report.
        "matplotlib>=3.7",
    ],
    "prior": [
        # Gaussian mixture of scripts/train_epll_prior.py; what it learnt comes with the package.
        "scikit-learn>=1.3",
    ],
    "noncommercial": [
        # Restormer, MPRNet, MIRNet2 and M3SNet: the package is MIT, these networks are under their authors' Academic
        # Public License, which does not allow commercial use.
        "spandrel>=0.4",
        "spandrel_extra_arches>=0.2",
    ],
    "docs": [
        # The site of the documentation: its builder, its theme, and Markdown pages in it.
        "sphinx>=8.1,<9",
        "furo>=2024.8.6",
        "myst-parser>=4,<5",
    ],
    "export": [
        # Writes and checks ONNX files.
        "onnx>=1.16",
        "onnxruntime>=1.18",
        # What torch.onnx translates operators with.
        "onnxscript>=0.5",
    ],
    "app": [
        # Serve the page of `macr app`; BSD. Gradio would bring 30 packages, its analytics and fonts from elsewhere.
        "starlette>=0.40",
        "uvicorn>=0.30",
    ],
    "video": [
        # Reads and writes videos, BSD; its wheel carries FFmpeg. 18 writes the rotation, and needs Python 3.11.
        "av>=18; python_version >= '3.11'",
        "av>=17; python_version < '3.11'",
    ],
}


class BuildWithPth(build_py):
    """Puts the ``.pth`` file at the root of the wheel, so that it lands in site-packages."""

    def run(self) -> None:
        """Build the package, then add the ``.pth`` file beside it."""
        super().run()
        if not self.editable_mode:
            Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PTH_FILE, Path(self.build_lib, PTH_FILE))


class EditableWheelWithPth(editable_wheel):
    """Adds the ``.pth`` file to the wheel of ``pip install -e``."""

    def run(self) -> None:
        """Build the editable wheel, then append the ``.pth`` file; pip records it, so uninstalling removes it."""
        super().run()
        for wheel in Path(self.dist_dir).glob("macr_plugin-*editable*.whl"):
            with zipfile.ZipFile(wheel, "a") as archive:
                archive.write(PTH_FILE)


setup(
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={"build_py": BuildWithPth, "editable_wheel": EditableWheelWithPth},
)
