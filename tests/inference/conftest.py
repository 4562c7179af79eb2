import numpy as np
import pytest
import skimage.data
import torch

from macr_plugin.archs.macr_arch import MACR

OPTIONS = {"num_feat": 8, "num_blocks": 1, "branch_channels": 2}


@pytest.fixture(scope="session")
def network():
    """A tiny MACR that changes a picture visibly."""
    torch.manual_seed(0)
    return MACR(**OPTIONS).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def weights(network, tmp_path_factory):
    """A checkpoint that records its network."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"params": network.state_dict(), "network_g": {"type": "MACR", **OPTIONS}}, path)
    return path


@pytest.fixture(scope="session")
def photo():
    """(70, 90, 3) uint8 RGB."""
    return np.ascontiguousarray(skimage.data.astronaut()[20:90, 180:270])
