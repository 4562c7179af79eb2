"""The import hook, in fresh interpreters."""

import os
import subprocess
import sys

import pytest


def run_python(code, **environment):
    """Output of a fresh interpreter, standard error included."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_an_unrelated_script_sees_registration_only():
    """The registries know the plugin; functions, samplers, loaders and paths are BasicSR's own."""
    output = run_python(
        """
import basicsr, inspect
from basicsr import train, test
from basicsr.data import data_sampler
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util, misc, options, registry
from basicsr.utils.file_client import FileClient, LmdbBackend
for name in ("ARCH", "LOSS", "DATASET", "MODEL"):
    known = getattr(registry, f"{name}_REGISTRY")
    print(name, sorted(key for key, value in known if value.__module__.startswith("macr_plugin")))
patched = [
    f"{module.__name__}.{name}"
    for module in (train, test, data_sampler, dist_util, misc, options, basicsr.data, BaseModel)
    for name, value in vars(module).items()
    if inspect.isfunction(value) and value.__globals__["__name__"].startswith("macr_plugin")
]
print("patched", patched, FileClient._backends["lmdb"] is LmdbBackend)
"""
    )
    networks = "'DeepDeblur', 'DeepDeblurDiscriminator', 'MACR', 'SRNDeblurNet', 'SpandrelNet', 'SunMotionNet'"
    assert f"ARCH [{networks}]" in output
    assert "LOSS ['MACRFourierLoss', 'MACRLoss', 'MACRMSSSIMLoss', 'MACRSSIMLoss', 'MotionCrossEntropyLoss']" in output
    assert "DATASET ['DeblurPairDataset', 'LinearMotionPatchDataset', 'SyntheticMotionBlurDataset']" in output
    assert "MODEL ['MotionClassifierModel', 'MultiScaleDeblurGANModel', 'MultiScaleDeblurModel']" in output
    assert "patched [] True" in output


def test_the_hook_at_interpreter_start_is_light():
    code = "import sys; print('torch' in sys.modules, 'basicsr' in sys.modules, 'macr_plugin.autoload' in sys.modules)"
    assert run_python(code).strip() == "False False True"


@pytest.mark.parametrize(("first", "second"), [("macr_plugin", "spandrel"), ("spandrel", "macr_plugin")])
def test_spandrel_knows_macr_in_either_order_of_imports(first, second):
    pytest.importorskip("spandrel")
    code = f"""
import sys
import {first}
print("spandrel" in sys.modules, "torch" in sys.modules)
import {second}
from spandrel import MAIN_REGISTRY
print("MACR" in MAIN_REGISTRY, "basicsr" in sys.modules, sys.modules["spandrel"].__loader__.__class__.__name__)
"""
    lines = run_python(code, MACR_PLUGIN_AUTOLOAD="0").splitlines()
    assert lines[0] == ("False False" if first == "macr_plugin" else "True True")
    assert lines[1] == "True False SourceFileLoader"


def test_kill_switch():
    code = "import sys; print([type(finder).__name__ for finder in sys.meta_path], 'macr_plugin' in sys.modules)"
    assert "BasicSRFinder" in run_python(code)
    output = run_python(code, MACR_PLUGIN_AUTOLOAD="0")
    assert "BasicSRFinder" not in output
    assert "False" in output


def test_explicit_register_without_the_pth_file_is_idempotent():
    output = run_python(
        """
import warnings
warnings.simplefilter("error", RuntimeWarning)
import macr_plugin
macr_plugin.register()
macr_plugin.register()
from basicsr.archs import build_network
print(type(build_network({"type": "MACR", "num_feat": 8, "num_blocks": 1})).__module__)
""",
        MACR_PLUGIN_AUTOLOAD="0",
    )
    assert "macr_plugin.archs.macr_arch" in output


def test_models_can_be_imported_first():
    """Importing a model class starts BasicSR's import, which ends in registering that very class."""
    output = run_python(
        """
from macr_plugin.models.multiscale_model import MultiScaleDeblurModel
from basicsr.utils.registry import MODEL_REGISTRY
print(MODEL_REGISTRY.get("MultiScaleDeblurModel") is MultiScaleDeblurModel)
"""
    )
    assert output.strip().endswith("True")


@pytest.mark.parametrize("module", ["macr_plugin.data.datasets.deblur_pair_dataset", "macr_plugin.registration"])
def test_any_module_can_be_imported_first(module):
    output = run_python(
        f"""
import importlib
importlib.import_module("{module}")
from macr_plugin import register
register()
from basicsr.utils.registry import DATASET_REGISTRY
print(DATASET_REGISTRY.get("DeblurPairDataset").__module__)
"""
    )
    assert output.strip().endswith("macr_plugin.data.datasets.deblur_pair_dataset")
    assert "Warning" not in output


def test_a_taken_name_is_left_to_its_owner():
    output = run_python(
        """
import macr_plugin.registration as registration
from basicsr.utils.registry import ARCH_REGISTRY
class MACR: pass
MACR.__module__ = "another_package"
ARCH_REGISTRY._obj_map["MACR"] = MACR
registration.register_all()
print(ARCH_REGISTRY.get("MACR") is MACR)
"""
    )
    assert "BasicSR knows another MACR already (another_package)" in output
    assert output.strip().endswith("True")


def test_an_error_in_the_hook_warns_and_lets_the_interpreter_live():
    output = run_python(
        """
import macr_plugin.registration as registration
def fail(): raise RuntimeError("broken on purpose")
registration.register_all = fail
import basicsr
print("alive", basicsr.__version__)
"""
    )
    assert "macr_plugin could not extend BasicSR: RuntimeError: broken on purpose" in output
    assert "alive 1.4.2" in output


def test_the_module_keeps_its_own_loader():
    """pkgutil, inspect and importlib.resources ask the package for its loader."""
    output = run_python(
        """
import basicsr, importlib.machinery, pkgutil
print(type(basicsr.__loader__).__name__, type(basicsr.__spec__.loader).__name__)
print(len(pkgutil.get_data("basicsr", "version.py")) > 0)
"""
    )
    assert "SourceFileLoader SourceFileLoader" in output
    assert output.strip().endswith("True")
