"""MACR motion deblurring as a plugin of BasicSR.

Importing this package is cheap: it neither imports torch nor BasicSR. It installs an import hook, so that BasicSR, once
something imports it, works on today's torchvision and knows the plugin's classes.
"""

from macr_plugin.autoload import install
from macr_plugin.autoload import register as register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from macr_plugin.inference.deblurrer import Deblurrer as Deblurrer

__all__ = ["Deblurrer", "__version__", "register"]

__version__ = "0.1.0"

install()


def __getattr__(name: str) -> object:
    """Import what needs torch once it is asked for."""
    if name == "Deblurrer":
        from macr_plugin.inference.deblurrer import Deblurrer

        return Deblurrer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
