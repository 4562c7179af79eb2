"""How a part of BasicSR is replaced."""

from __future__ import annotations

import sys
from typing import Any

Options = dict[str, Any]


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Put a replacement wherever a BasicSR module refers to a function, also by ``from ... import``."""
    for name, module in list(sys.modules.items()):
        if name == "basicsr" or name.startswith("basicsr."):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, replacement)
