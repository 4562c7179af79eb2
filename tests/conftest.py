"""Fixtures for all tests."""

import sys
import threading

import chromium
import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils.file_client import FileClient
from basicsr.utils.registry import DATASET_REGISTRY
from started_programs import Starter


def pytest_collection_modifyitems(items):
    """Skip, visibly, what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no NVIDIA GPU")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def restored_tf32():
    """Models choose TF32 for their whole process: each test starts with torch's own choice."""
    allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed


@pytest.fixture
def restored_basicsr():
    """Undo whatever a patch changes in BasicSR's modules."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "basicsr"]
    before = [(module, dict(vars(module))) for module in modules]
    methods, backends = dict(vars(BaseModel)), dict(FileClient._backends)
    report_of_threads = threading.excepthook
    readers = [
        (kind, name, vars(kind)[name])
        for _, kind in DATASET_REGISTRY
        for name in ("__init__", "__getitem__")
        if name in vars(kind)
    ]
    exchanges = {model: model._dequeue_and_enqueue for model in (RealESRNetModel, RealESRGANModel)}
    yield
    threading.excepthook = report_of_threads
    for module, attributes in before:
        vars(module).update(attributes)
    for model, exchange in exchanges.items():
        model._dequeue_and_enqueue = exchange
    for kind, name, method in readers:
        setattr(kind, name, method)
    for name, method in methods.items():
        if vars(BaseModel)[name] is not method:
            setattr(BaseModel, name, method)
    FileClient._backends = backends


@pytest.fixture(scope="session")
def starter():
    """Starts the plugin's programs without the seconds of importing torch."""
    with Starter() as starter:
        yield starter


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser for all tests of a module."""
    page = chromium.Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()
