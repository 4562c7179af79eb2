"""The torchvision module that is no more."""

import importlib
import sys
import types

import torch

from macr_plugin.basicsr_compat import torchvision_alias


def test_functional_tensor_is_an_alias():
    module = importlib.import_module("torchvision.transforms.functional_tensor")
    picture = torch.rand(3, 4, 5)
    from torchvision.transforms.functional import rgb_to_grayscale

    assert torch.equal(module.rgb_to_grayscale(picture), rgb_to_grayscale(picture))


def test_alias_never_hides_a_real_module(monkeypatch):
    name = torchvision_alias.FunctionalTensorFinder.module_name
    monkeypatch.delitem(sys.modules, name, raising=False)
    real = types.ModuleType(name)

    class Real:
        @staticmethod
        def find_spec(fullname, path=None, target=None):
            return importlib.machinery.ModuleSpec(fullname, Real) if fullname == name else None

        @staticmethod
        def create_module(spec):
            return real

        @staticmethod
        def exec_module(module):
            pass

    torchvision_alias.alias_functional_tensor()
    monkeypatch.setattr(sys, "meta_path", [Real, *sys.meta_path])
    assert importlib.import_module(name) is real


def test_alias_is_installed_once():
    torchvision_alias.alias_functional_tensor()
    torchvision_alias.alias_functional_tensor()
    assert sum(isinstance(finder, torchvision_alias.FunctionalTensorFinder) for finder in sys.meta_path) == 1
