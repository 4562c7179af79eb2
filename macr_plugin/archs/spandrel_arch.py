"""The architectures of the library ``spandrel`` as networks that BasicSR can train and test."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from macr_plugin.archs.padding import crop_to_size, pad_to_size
from macr_plugin.errors import InputError, nearest_name

#: Restoration networks of ``spandrel_extra_arches``, named here to tell what to install where it is missing.
NONCOMMERCIAL_ARCHITECTURES = ("M3SNet", "MIRNet2", "MPRNet", "Restormer")


class SpandrelNet(nn.Module):
    """Any restoration network of ``spandrel``, built by name and options or from a checkpoint that it recognises.

    ``spandrel`` (MIT) carries NAFNet, FFTformer, Uformer, KBNet_s, KBNet_l, SCUNet and many more.
    ``spandrel_extra_arches`` adds Restormer, MPRNet, MIRNet2 and M3SNet, each under its authors' Academic Public
    License, which does not allow commercial use: ``pip install spandrel`` brings the first,
    ``pip install spandrel_extra_arches`` the second.

    The weights are those of :attr:`network`, so that every key of the state dict starts with ``network.``. A checkpoint
    published elsewhere is read with ``checkpoint``, whatever its keys start with.

    Registered as ``SpandrelNet`` in BasicSR's ``ARCH_REGISTRY``.

    Args:
        architecture: Class of the network as ``spandrel`` names it, such as ``NAFNet``.
        checkpoint: Path of weights; architecture and options are read off them, so neither is given beside it.
        options: Arguments of that class, such as ``width: 32``.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), unclipped, for any H and W.

    Raises:
        InputError: If a package is missing, the architecture or one of its options is unknown, the checkpoint cannot be
            read, or the network does not map a colour picture to one of the same size.

    Example:
        >>> import torch
        >>> SpandrelNet("NAFNet", width=8, enc_blk_nums=[1], dec_blk_nums=[1])(torch.rand(1, 3, 37, 50)).shape
        torch.Size([1, 3, 37, 50])
    """

    def __init__(self, architecture: str | None = None, checkpoint: str | None = None, **options: Any) -> None:
        super().__init__()
        if (architecture is None) == (checkpoint is None):
            raise InputError("SpandrelNet takes either architecture, such as NAFNet, or checkpoint: give one of them")
        if checkpoint is not None and options:
            raise InputError(f"SpandrelNet reads its options off the checkpoint: remove {', '.join(options)}")
        _require_spandrel()
        if architecture is not None:
            network_class, description = _find_architecture(architecture)
            self.network = _build(network_class, options)
            descriptor = description.load(self.network.state_dict())
        else:
            descriptor = _load(Path(str(checkpoint)))
            self.network = descriptor.model
        _check_picture_to_picture(descriptor, architecture or str(checkpoint))
        self._sizes = descriptor.size_requirements

    #: It pads every picture up to what its architecture takes.
    minimum_size = 1

    @property
    def multiple_of(self) -> int:
        """What height and width are padded to a multiple of."""
        return self._sizes.multiple_of

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch of blurred pictures.

        Args:
            x: Blurred pictures, shape (N, 3, H, W), RGB in [0, 1].

        Returns:
            Restored pictures, shape (N, 3, H, W), unclipped.
        """
        height, width = x.shape[-2:]
        right, bottom = self._sizes.get_padding(width, height)
        restored = self.network(pad_to_size(x, (height + bottom, width + right)))
        # MPRNet and M3SNet return the pictures of all their stages, the last stage first.
        finest = restored if isinstance(restored, Tensor) else restored[0]
        return crop_to_size(finest, (height, width))


def _require_spandrel() -> None:
    if importlib.util.find_spec("spandrel") is None:
        raise InputError("SpandrelNet needs the package spandrel: pip install spandrel")


def _has_noncommercial() -> bool:
    return importlib.util.find_spec("spandrel_extra_arches") is not None


def _registry() -> Any:
    """All architectures that are installed, in a registry of our own: spandrel's is shared by the whole process."""
    from spandrel import MAIN_REGISTRY

    registry = MAIN_REGISTRY.copy()
    if _has_noncommercial():
        from spandrel_extra_arches import EXTRA_REGISTRY

        registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    return registry


def _network_classes() -> Iterator[tuple[str, type[nn.Module], Any]]:
    """Name and class of every network, with spandrel's description of its architecture."""
    for support in _registry():
        module = sys.modules[type(support.architecture).__module__]
        for name in module.__all__:
            candidate = getattr(module, name)
            if inspect.isclass(candidate) and issubclass(candidate, nn.Module):
                yield name, candidate, support.architecture


def _find_architecture(name: str) -> tuple[type[nn.Module], Any]:
    known = {found: (network_class, description) for found, network_class, description in _network_classes()}
    if name in known:
        return known[name]
    if name in NONCOMMERCIAL_ARCHITECTURES and not _has_noncommercial():
        raise InputError(
            f"{name} needs the package spandrel_extra_arches: pip install spandrel_extra_arches; its licence "
            "does not allow commercial use"
        )
    raise InputError(f"architecture: spandrel has no {name}: {nearest_name(name, known)}")


def _build(network_class: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    # spandrel wraps constructors to record their arguments and leaves the original behind.
    known = [name for name in inspect.signature(network_class.__init__).parameters if name != "self"]
    for name in options:
        if name not in known:
            raise InputError(
                f"network_g.{name}: unknown option of {network_class.__name__}: {nearest_name(name, known)}"
            )
    return network_class(**options)


def _load(checkpoint: Path) -> Any:
    from spandrel import ModelLoader, UnsupportedModelError

    if not checkpoint.is_file():
        raise InputError(f"checkpoint {checkpoint} is no file: give a .pth, .pt, .ckpt or .safetensors file")
    try:
        return ModelLoader("cpu", registry=_registry()).load_from_file(checkpoint)
    except UnsupportedModelError as error:
        more = "" if _has_noncommercial() else " (pip install spandrel_extra_arches adds some)"
        raise InputError(f"{checkpoint} holds the weights of no network that spandrel knows{more}") from error
    except Exception as error:
        raise InputError(f"checkpoint {checkpoint} cannot be read: {' '.join(str(error).split())}") from error


def _check_picture_to_picture(descriptor: Any, name: str) -> None:
    from spandrel import ImageModelDescriptor

    if not isinstance(descriptor, ImageModelDescriptor):
        raise InputError(f"{name} fills masked parts of a picture: choose a restoration network")
    if (descriptor.scale, descriptor.input_channels, descriptor.output_channels) != (1, 3, 3):
        raise InputError(
            f"{name} maps {descriptor.input_channels} to {descriptor.output_channels} channels at scale "
            f"{descriptor.scale}: choose options for 3 channels and scale 1"
        )
