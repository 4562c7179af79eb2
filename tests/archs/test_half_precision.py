"""Every network of the plugin runs with weights and pictures in half precision, on any device."""

import basicsr  # noqa: F401  registers the plugin
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from macr_plugin.archs.pyramid import resize

NETWORKS = {
    "MACR": {"num_feat": 8, "num_blocks": 1, "branch_channels": 2},
    "MACR with one scale": {"num_feat": 8, "num_blocks": 1, "branch_channels": 2, "num_scales": 1},
    "SRNDeblurNet": {"num_feat": 8, "num_blocks": 1},
    "SRNDeblurNet with LSTM": {"num_feat": 8, "num_blocks": 1, "lstm": True},
    "DeepDeblur": {"num_feat": 8, "num_blocks": 1},
    "SpandrelNet": {
        "architecture": "NAFNet",
        "width": 8,
        "middle_blk_num": 1,
        "enc_blk_nums": [1],
        "dec_blk_nums": [1],
    },
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(32, 48), (37, 53)])
@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_near_full_precision(name, size, dtype):
    if name == "SpandrelNet":
        pytest.importorskip("spandrel")
    torch.manual_seed(0)
    network = ARCH_REGISTRY.get(name.split(" ")[0])(**NETWORKS[name]).eval()
    picture = torch.rand(1, 3, *size)
    with torch.no_grad():
        full = network(picture)
        half = network.to(dtype)(picture.to(dtype))
    full, half = (output if isinstance(output, torch.Tensor) else output[0] for output in (full, half))
    assert half.dtype == dtype
    assert half.shape == full.shape
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(8, 12), (40, 70), (9, 60)])
def test_resizing_in_half_precision_rounds_once(dtype, size):
    picture = torch.rand(2, 3, 20, 33).to(dtype)
    torch.testing.assert_close(resize(picture, size), resize(picture.float(), size).to(dtype), rtol=0.01, atol=0)
