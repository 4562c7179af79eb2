"""Every public tensor function and module of archs, losses and metrics shows what it does, and does it."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

ROOMS = ("archs", "losses", "metrics")
MODULES = [
    found.name
    for room in ROOMS
    for found in pkgutil.iter_modules(importlib.import_module(f"macr_plugin.{room}").__path__, f"macr_plugin.{room}.")
]
#: Modules that need a package of an extra.
EXTRAS = {"macr_plugin.archs.spandrel_arch": "spandrel", "macr_plugin.archs.spandrel_support": "spandrel"}


def module_of(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    return importlib.import_module(name)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    torch.manual_seed(0)
    assert doctest.testmod(module_of(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_tensor_function_has_an_example(name):
    module = module_of(name)
    for own, value in vars(module).items():
        if getattr(value, "__module__", None) != name or own.startswith("_"):
            continue
        takes_tensors = inspect.isfunction(value) and "Tensor" in str(inspect.signature(value))
        if takes_tensors or (inspect.isclass(value) and "forward" in vars(value)):
            assert ">>> " in value.__doc__, own
