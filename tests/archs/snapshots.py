"""Recorded outputs of every network: ``python tests/archs/snapshots.py`` records them anew in data/snapshots.npz.

Weights and pictures come from NumPy's frozen generator, so that a record tells of the code alone.
"""

from pathlib import Path

import basicsr  # noqa: F401  registers the plugin
import numpy as np
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from reference_weights import uniform, with_reference_weights

RECORD = Path(__file__).parent / "data" / "snapshots.npz"

#: Name in the record, then the registered name with options of a small network.
NETWORKS = {
    "macr": ("MACR", {"num_feat": 8, "num_blocks": 1, "branch_channels": 2}),
    "macr_skips_all": (
        "MACR",
        {"num_feat": 8, "num_blocks": 1, "branch_channels": 2, "skip_connections": True, "fuse_inputs": "all"},
    ),
    "macr_resblock": ("MACR", {"num_feat": 8, "num_blocks": 1, "branch_channels": 2, "block": "resblock"}),
    "macr_dcb": ("MACR", {"num_feat": 8, "num_blocks": 1, "branch_channels": 2, "block": "dcb"}),
    "macr_rdb": ("MACR", {"num_feat": 8, "num_blocks": 1, "branch_channels": 2, "block": "rdb"}),
    "deepdeblur": ("DeepDeblur", {"num_feat": 8, "num_blocks": 1}),
    "deepdeblur_discriminator": ("DeepDeblurDiscriminator", {"num_feat": 8}),
    "srn": ("SRNDeblurNet", {"num_feat": 8, "num_blocks": 1}),
    "srn_lstm": ("SRNDeblurNet", {"num_feat": 8, "num_blocks": 1, "lstm": True}),
    "sun": ("SunMotionNet", {"channels": [4, 8, 16]}),
    "spandrel": (
        "SpandrelNet",
        {"architecture": "NAFNet", "width": 8, "middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]},
    ),
}


def output_of(name):
    """What the network of that name makes of a fixed picture: every third row and column, float32."""
    registered, options = NETWORKS[name]
    network = with_reference_weights(ARCH_REGISTRY.get(registered)(**options)).float()
    # No multiple of 4, so that padding and cropping count too.
    picture = uniform(0, (1, 3, 33, 38), 0, 1).float()
    with torch.no_grad():
        # A step of 3 meets pixels of every phase of strides 2 and 4.
        return network(picture)[..., ::3, ::3].numpy()


if __name__ == "__main__":
    np.savez_compressed(RECORD, **{name: output_of(name) for name in NETWORKS})
    print(f"Written: {RECORD}, {RECORD.stat().st_size:,} bytes")
