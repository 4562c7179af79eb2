"""Patches of how BasicSR connects processes."""

from __future__ import annotations

import functools
from typing import Any

from macr_plugin.basicsr_compat.patching import replace_everywhere
from macr_plugin.errors import InputError


def patch_distributed_on_cpu() -> None:
    """Let torchrun start processes on a machine without a GPU, connected by gloo.

    BasicSR divides the ranks over ``torch.cuda.device_count()`` devices and names a CUDA device to
    DistributedDataParallel.
    """
    import torch
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import dist_util

    init_dist, model_to_device = dist_util.init_dist, BaseModel.model_to_device

    @functools.wraps(init_dist)
    def patched_init_dist(launcher: str, backend: str = "nccl", **kwargs: Any) -> None:
        try:
            init_dist(launcher, backend, **kwargs)
        except ZeroDivisionError:
            if launcher != "pytorch":
                raise InputError(f"--launcher {launcher} needs GPUs: start CPU processes with torchrun") from None
            torch.distributed.init_process_group(backend="gloo")

    @functools.wraps(model_to_device)
    def patched_model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt["dist"] or self.device.type != "cpu":
            return model_to_device(self, net)
        find_unused_parameters = self.opt.get("find_unused_parameters", False)
        return torch.nn.parallel.DistributedDataParallel(
            net.to(self.device), find_unused_parameters=find_unused_parameters
        )

    replace_everywhere(init_dist, patched_init_dist)
    BaseModel.model_to_device = patched_model_to_device
