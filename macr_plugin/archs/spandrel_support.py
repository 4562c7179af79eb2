"""MACR for programs on the library ``spandrel``, which load a checkpoint without being told what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, SizeRequirements
from spandrel.util import get_seq_len
from torch import Tensor

from macr_plugin.archs.blocks import RGB_CHANNELS
from macr_plugin.archs.macr_arch import BLOCKS, EXTRA_STATE, MACR
from macr_plugin.errors import InputError

__all__ = ["MACR", "MACRArch", "is_macr", "read_options", "register_with_spandrel"]

#: Weights that every MACR has, with the shape of each, less its channels.
KERNELS = {
    "conv1.weight": (2 * RGB_CHANNELS, 3, 3),
    "conv2.weight": (3, 3),
    "conv3.weight": (3, 3),
    "upsample1.weight": (4, 4),
    "upsample2.weight": (4, 4),
    "reconstruct.weight": (3, 3),
}


class MACRArch(Architecture[MACR]):
    """Tells a MACR by its keys and shapes, and builds it with the options that it was trained with."""

    def __init__(self) -> None:
        super().__init__(id="MACR", detect=is_macr)

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[MACR]:
        """Build the network of a state dict.

        Args:
            state_dict: Weights for which :func:`is_macr` is true.

        Raises:
            InputError: If the state dict does not tell all options.
        """
        model = MACR(**read_options(state_dict))
        blocks = len(model.blocks)
        return ImageModelDescriptor(
            model,
            state_dict,
            architecture=self,
            purpose="Restoration",
            tags=[f"{model.conv1.out_channels}nf", f"{blocks}b", f"{model.num_scales}s"],
            supports_half=True,
            supports_bfloat16=True,
            scale=1,
            input_channels=RGB_CHANNELS,
            output_channels=RGB_CHANNELS,
            size_requirements=SizeRequirements(minimum=model.minimum_size),
        )


def is_macr(state: Mapping[str, Any]) -> bool:
    """Whether a state dict holds the weights of a MACR.

    Args:
        state: Weights by name.
    """
    if not any(name.startswith("blocks.0.") for name in state):
        return False
    shapes = {
        name: tuple(value.shape) for name, value in state.items() if name in KERNELS and isinstance(value, Tensor)
    }
    return set(shapes) == set(KERNELS) and all(
        len(shape) == 4 and shape[-len(KERNELS[name]) :] == KERNELS[name] for name, shape in shapes.items()
    )


def read_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read every option of a MACR off its state dict.

    Args:
        state: Weights by name, of MACR's shapes, (C', C, k, k), and of any value: :func:`is_macr` is true for them.

    Returns:
        The arguments of :class:`MACR`. ``branch_channels`` has its default where there is no MSRM.

    Raises:
        InputError: If the state dict lacks the options that no shape tells.

    Example:
        >>> read_options(MACR(num_feat=8, num_blocks=2).state_dict())["num_blocks"]
        2
    """
    if EXTRA_STATE not in state:
        raise InputError(
            "these weights of a MACR are from before its options were saved with them: save them once more by "
            'python -c "from macr_plugin.inference.trained_network import save_with_options as save; '
            "save('OLD.pth', 'NEW.pth')\""
        )
    num_scales, skip_connections, global_skip, fuses_all, block, *dilations = map(int, state[EXTRA_STATE].tolist())
    branch = state.get("msrm.0.branches.0.weight")
    options = {} if branch is None else {"branch_channels": branch.shape[0]}
    return options | {
        "num_feat": state["conv1.weight"].shape[0],
        "num_blocks": get_seq_len(state, "blocks"),
        "num_scales": num_scales,
        "dilations": tuple(dilations),
        "num_msrm": get_seq_len(state, "msrm"),
        "skip_connections": bool(skip_connections),
        "global_skip": bool(global_skip),
        "fuse_inputs": "all" if fuses_all else "second",
        "block": BLOCKS[block],
    }


def register_with_spandrel() -> None:
    """Make every program of this process that loads with spandrel's main registry know MACR; idempotent."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(MACRArch()), ignore_duplicates=True)


# By being imported: where this module is what imports spandrel, nobody could call a function of it in time.
register_with_spandrel()
