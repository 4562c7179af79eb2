"""Run by torchrun: every process takes a step on its share of a batch and writes the gradient and the new weights.

Arguments: batch file, folder for the results, 1 to let the step average the gradients itself.
"""

import functools
import sys
from pathlib import Path

import torch
from basicsr.models import build_model

from macr_plugin.basicsr_compat.distributed import patch_distributed_on_cpu

batch_file, folder, averages_itself = sys.argv[1:]
patch_distributed_on_cpu()
torch.distributed.init_process_group("gloo")
rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
# Other weights on every process: the first one's must reach all of them.
torch.manual_seed(rank)
torch.compile = functools.partial(torch.compile, backend="eager")
model = build_model(
    {
        "model_type": "MultiScaleDeblurModel",
        "num_gpu": 0,
        "dist": True,
        "rank": rank,
        "world_size": world_size,
        "is_train": True,
        "network_g": {"type": "MACR", "num_feat": 8, "num_blocks": 1, "branch_channels": 2},
        "path": {"models": folder, "training_states": folder},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": []},
            "pixel_opt": {"type": "MACRLoss"},
            "acceleration": {"compile": averages_itself == "1"},
        },
    }
)
batch = torch.load(batch_file, weights_only=True)
model.feed_data({name: pictures.chunk(world_size)[rank] for name, pictures in batch.items()})
model.optimize_parameters(1)
net = model.get_bare_model(model.net_g)
result = {
    "gradient": [weight.grad for weight in net.parameters()],
    "weights": list(net.state_dict().values()),
    "log": dict(model.get_current_log()),
}
torch.save(result, Path(folder, f"{world_size}_{rank}.pt"))
torch.distributed.destroy_process_group()
