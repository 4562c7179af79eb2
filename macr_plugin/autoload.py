"""Makes every import of BasicSR, and of spandrel, find this plugin.

``macr_plugin.pth`` in site-packages imports the package at interpreter start, which calls :func:`install`: a finder on
``sys.meta_path`` that waits for ``import basicsr``. When that comes, the alias of the torchvision module that BasicSR
misses is put in place first, and the plugin's classes are registered afterwards. Where the main program is BasicSR's or
the plugin's training or test script, or a data loading worker of it, the patches of its behaviour are applied too; any
other program that uses BasicSR sees none of them.

A second finder waits for ``import spandrel`` in the same way and adds MACR to what that library recognises.

Setting ``MACR_PLUGIN_AUTOLOAD=0`` keeps the ``.pth`` file from importing the package. Python 3.15 replaces import lines
in ``.pth`` files by ``.start`` files (PEP 829); then this module's :func:`install` is what such a file names.

This module runs at the start of every interpreter of the environment: it imports nothing beyond ``sys``.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class PackageFinder:
    """Meta path finder that wraps the loader of one package and passes everything else by."""

    package: str
    #: What people call it.
    title: str

    def before(self) -> None:
        """Do what must be done before the package is imported."""

    def after(self) -> None:
        """Do what needs the package."""
        raise NotImplementedError

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the package as the other finders do and make its loader run ours around it."""
        if fullname != self.package:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = PackageLoader(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None


class BasicSRFinder(PackageFinder):
    """Puts the alias for torchvision in place before BasicSR, and our classes into its registries afterwards."""

    package, title = "basicsr", "BasicSR"

    def before(self) -> None:
        """Alias the module of torchvision that BasicSR misses."""
        from macr_plugin import basicsr_compat

        basicsr_compat.alias_functional_tensor()

    def after(self) -> None:
        """Register our classes, and patch BasicSR's own programs."""
        from macr_plugin import basicsr_compat
        from macr_plugin.registration import register_all

        register_all()
        if basicsr_compat.is_training_program():
            from macr_plugin.training_program import patch_this_program

            patch_this_program()


class SpandrelFinder(PackageFinder):
    """Adds MACR to spandrel's main registry."""

    package, title = "spandrel", "spandrel"

    def after(self) -> None:
        """Import what registers MACR; where that module imported spandrel, it registers at its own end."""
        import macr_plugin.archs.spandrel_support  # noqa: F401


class PackageLoader:
    """Loader of a package: the original one, with a finder's work before and after."""

    def __init__(self, original, finder: PackageFinder) -> None:  # type: ignore[no-untyped-def]
        self.original = original
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as the original loader does."""
        return self.original.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module as the original loader does, between the finder's two steps."""
        # What asks the module for its loader afterwards (pkgutil, inspect, importlib.resources) must get the real one.
        module.__loader__ = self.original
        if module.__spec__ is not None:
            module.__spec__.loader = self.original
        _warn_on_error(self.finder.before, self.finder.title)
        self.original.exec_module(module)
        _warn_on_error(self.finder.after, self.finder.title)


def install() -> None:
    """Wait for ``import basicsr`` and ``import spandrel``; does nothing when called again."""
    if any(isinstance(finder, BasicSRFinder) for finder in sys.meta_path):
        return
    spandrel = SpandrelFinder()
    sys.meta_path[:0] = [BasicSRFinder(), spandrel]
    # BasicSR's import registers by register(); nobody calls that for spandrel.
    if spandrel.package in sys.modules:
        _warn_on_error(spandrel.after, spandrel.title)


def register() -> None:
    """Add the plugin's classes to BasicSR's registries, importing BasicSR if need be; idempotent.

    A name that another package took already is left to it, with a warning.
    """
    install()
    # On a first import the finder calls this function from within, after which everything below does nothing.
    BasicSRFinder().before()
    import basicsr  # noqa: F401

    from macr_plugin.registration import register_all

    register_all()


def _warn_on_error(step, title: str) -> None:  # type: ignore[no-untyped-def]
    try:
        step()
    # A fault of ours must never break an interpreter that happens to share the environment.
    except Exception as error:
        import warnings

        warnings.warn(
            f"macr_plugin could not extend {title}: {type(error).__name__}: {error}. "
            "Set MACR_PLUGIN_AUTOLOAD=0 to keep it out.",
            RuntimeWarning,
            stacklevel=2,
        )
