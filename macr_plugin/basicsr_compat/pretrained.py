"""The patch of which files of weights BasicSR's models start from."""

from __future__ import annotations

from typing import Any, Protocol


class LoadPretrained(Protocol):
    """Loads the weights that the options of a model name."""

    def __call__(
        self, model: Any, net: Any, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Do what ``BaseModel.load_network`` does."""


def patch_load_network(load_pretrained: LoadPretrained) -> None:
    """Let every model take what the plugin's models take as weights to start from, and run no code of a file.

    BasicSR knows its own ``.pth`` files alone; any other, or a damaged one, ends in a traceback.

    Args:
        load_pretrained: Does what ``BaseModel.load_network`` does.
    """
    from basicsr.models.base_model import BaseModel

    def patched_load_network(
        self: Any, net: Any, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        load_pretrained(self, net, load_path, strict, param_key)

    BaseModel.load_network = patched_load_network
