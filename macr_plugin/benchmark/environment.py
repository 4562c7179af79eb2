"""What the figures of a benchmark depend on: versions, devices, settings."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

import torch

from macr_plugin.inference.restorer import device_name

PACKAGES = ("torch", "basicsr", "macr-plugin", "spandrel", "numpy")


def describe_environment(devices: Iterable[torch.device], channels_last: bool, memory_kept: bool) -> dict[str, str]:
    """Versions, devices and settings that figures depend on.

    Args:
        devices: Where is measured.
        channels_last: How pictures and weights are laid out.
        memory_kept: Whether the process keeps the main memory that it frees.
    """
    environment = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            environment[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            environment[package] = "not installed"
    devices = list(devices)
    for number, device in enumerate(devices, start=1):
        environment["device" if len(devices) == 1 else f"device {number}"] = device_name(device)
    if any(device.type == "cuda" for device in devices):
        environment["CUDA"] = str(torch.version.cuda)
        environment["cuDNN"] = str(torch.backends.cudnn.version())
    environment["memory layout"] = "channels last" if channels_last else "contiguous"
    environment["freed main memory"] = "kept" if memory_kept else "given back"
    return environment
