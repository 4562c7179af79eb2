"""The torchvision module that BasicSR imports and that is no more; the one patch of every import of BasicSR."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType


class FunctionalTensorFinder:
    """Last resort for ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed.

    BasicSR's ``degradations.py`` takes ``rgb_to_grayscale`` from it; that function lives on in
    ``torchvision.transforms.functional``. Standing last on ``sys.meta_path``, the finder never hides a real module.
    """

    module_name = "torchvision.transforms.functional_tensor"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for that one name."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self.module_name else None  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave the creation to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the alias with the one function that BasicSR needs."""
        from torchvision.transforms.functional import rgb_to_grayscale

        module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]


def alias_functional_tensor() -> None:
    """Let ``torchvision.transforms.functional_tensor`` be imported where torchvision no longer has it."""
    if not any(isinstance(finder, FunctionalTensorFinder) for finder in sys.meta_path):
        sys.meta_path.append(FunctionalTensorFinder())
