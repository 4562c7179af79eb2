"""A network of your own in BasicSR: trained, validated and saved like MACR.

macr synthesize --demo
python -m macr_plugin.train --import examples/own_network.py -opt examples/own_network.yml

The trained weights deblur photographs too: in a program, import this file before Deblurrer("experiments/own_network").
"""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional


@ARCH_REGISTRY.register()
class PlainUNet(nn.Module):
    """A small U-Net with two scales that learns what to add to the blurred picture.

    Args:
        num_feat: Channels at full size; twice as many at half size.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), for any H and W.
    """

    def __init__(self, num_feat: int = 32) -> None:
        super().__init__()
        self.encode = nn.Conv2d(3, num_feat, 3, padding=1)
        self.down = nn.Conv2d(num_feat, 2 * num_feat, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(2 * num_feat, 2 * num_feat, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * num_feat, num_feat, 4, stride=2, padding=1)
        self.decode = nn.Conv2d(num_feat, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch of blurred pictures.

        A network that returns a list of pictures, finest first, is supervised at every scale: see ``scale_weights``.
        """
        height, width = x.shape[-2:]
        even = functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        full = functional.relu(self.encode(even))
        half = functional.relu(self.middle(functional.relu(self.down(full))))
        residual = self.decode(functional.relu(self.up(half)) + full)
        return x + residual[..., :height, :width]
