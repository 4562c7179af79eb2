"""MACR motion deblurring as a plugin of BasicSR.

Importing this package is cheap: it neither imports torch nor BasicSR. It installs an import hook, so that BasicSR, once
something imports it, works on today's torchvision and knows the plugin's classes.
"""

from macr_plugin.autoload import install
from macr_plugin.autoload import register as register

__all__ = ["__version__", "register"]

__version__ = "0.1.0"

install()
