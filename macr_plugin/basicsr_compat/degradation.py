"""The patch of how Real-ESRGAN's models, which blur and compress their batches themselves, do without a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from macr_plugin.basicsr_compat.patching import replace_everywhere
from macr_plugin.errors import InputError

Module = TypeVar("Module", bound=type)


def patch_degradation_on_cpu() -> None:
    """Let BasicSR's ``RealESRNetModel`` and ``RealESRGANModel`` train on a CPU, where there is no GPU.

    They move their sharpening, their JPEG compression and their pool of pairs to a GPU whatever ``num_gpu`` says, and
    their filter cannot view a compressed picture as a CPU pads it, channels last.
    """
    import torch
    from basicsr.models import realesrgan_model, realesrnet_model
    from basicsr.utils.img_process_util import filter2D

    if torch.cuda.is_available():
        return
    for module in (realesrnet_model, realesrgan_model):
        # Not everywhere: in the module that defines it, the class looks itself up by its name.
        for name in ("DiffJPEG", "USMSharp"):
            setattr(module, name, staying_on_cpu(getattr(module, name)))

    @functools.wraps(filter2D)
    def patched_filter2d(img: Any, kernel: Any) -> Any:
        return filter2D(img.contiguous(), kernel)

    replace_everywhere(filter2D, patched_filter2d)
    for model in (realesrnet_model.RealESRNetModel, realesrgan_model.RealESRGANModel):
        model._dequeue_and_enqueue = with_pool_on_cpu(model._dequeue_and_enqueue)


def staying_on_cpu(part: Module) -> Module:
    """The class of a network part, whose ``cuda`` leaves it where it is."""
    return type(part.__name__, (part,), {"cuda": lambda self, device=None: self})  # type: ignore[return-value]


def with_pool_on_cpu(exchange: Callable[[Any], None]) -> Callable[[Any], None]:
    """A model's exchange of its batch with its pool of pairs, which makes the pool where the batch is."""

    @functools.wraps(exchange)
    def patched_exchange(self: Any) -> None:
        if not hasattr(self, "queue_lr"):
            if self.queue_size % len(self.lq):
                raise InputError(
                    f"queue_size {self.queue_size} is no multiple of the batch of {len(self.lq)}: make it one"
                )
            self.queue_lr = self.lq.new_zeros(self.queue_size, *self.lq.shape[1:])
            self.queue_gt = self.gt.new_zeros(self.queue_size, *self.gt.shape[1:])
            self.queue_ptr = 0
        exchange(self)

    return patched_exchange
