"""Fixtures for all tests."""

import pytest
import torch


def pytest_collection_modifyitems(items):
    """Skip, visibly, what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no NVIDIA GPU")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)
