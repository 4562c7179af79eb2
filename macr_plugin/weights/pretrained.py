"""How a model of BasicSR loads the weights that its options name."""

from __future__ import annotations

from typing import Any

from torch import nn

from macr_plugin.weights.checkpoint import changed_options, load_state, read_checkpoint


def load_pretrained(
    model: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> None:
    """Do what ``BaseModel.load_network`` of BasicSR does, for every file that ``read_checkpoint`` takes.

    Args:
        model: A model of BasicSR.
        net: A network of it; gets the weights.
        load_path: The file, or the name of shipped weights.
        strict: Whether every weight must fit; else those that do are loaded, and the others logged.
        param_key: Which weights of the file; where BasicSR's own are not there, as ``read_checkpoint`` finds them.

    Raises:
        InputError: If the file cannot be read or does not fit.
    """
    from basicsr.utils import get_root_logger

    logger, network = get_root_logger(), model.get_bare_model(net)
    checkpoint = read_checkpoint(load_path, param_key, as_basicsr=True)
    logger.info(f"Loading {type(network).__name__} model from {load_path}, with param key: [{checkpoint.param_key}].")
    difference = load_state(network, checkpoint, strict)
    if difference:
        logger.warning(f"weights {load_path}: left out what does not fit: {difference}")
    if hasattr(model, "net_g") and network is model.get_bare_model(model.net_g):
        changed = changed_options(checkpoint, model.opt["network_g"], type(network))
        if changed:
            logger.warning(f"weights {load_path} were trained with other options of network_g: {changed}")
