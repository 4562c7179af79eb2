"""MIMO-UNet in words of our own, to be timed beside the package's networks; ``--import`` brings it to any benchmark.

Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", ICCV 2021: one U-Net that also reads the
picture at a half and a quarter of its size, and restores it at all three. It has the operations and the 6.81 million
parameters of the published network, whose weights do not fit: its layers have other names.
"""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn.functional import interpolate


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """A convolution that keeps the size, but for its stride."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return nn.Sequential(layer, *[nn.ReLU(inplace=True)] * relu)


def upsample(inputs: int) -> nn.Sequential:
    """Twice the size, half the channels."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, inputs // 2, 4, stride=2, padding=1), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what they got."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 3, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """Refine features of any size."""
        return x + self.body(x)


class SmallPicture(nn.Module):
    """Features of a picture at a smaller size, with the picture itself among them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, half = channels // 4, channels // 2
        self.body = nn.Sequential(
            conv(3, quarter, 3), conv(quarter, half, 1), conv(half, half, 3), conv(half, channels - 3, 1)
        )
        self.mix = conv(channels, channels, 1, relu=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Features of a picture (N, 3, H, W)."""
        return self.mix(torch.cat([picture, self.body(picture)], dim=1))


@ARCH_REGISTRY.register()
class MIMOUNet(nn.Module):
    """MIMO-UNet.

    Args:
        num_feat: Channels at the full size.
        num_blocks: Residual blocks of each encoder and decoder.

    Shape:
        (N, 3, H, W) -> (N, 3, H, W), RGB in [0, 1]; H and W divisible by 4.
    """

    def __init__(self, num_feat: int = 32, num_blocks: int = 8) -> None:
        super().__init__()
        one, two, four = num_feat, 2 * num_feat, 4 * num_feat

        def blocks(channels: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(channels) for _ in range(num_blocks)))

        self.down = nn.ModuleList([conv(3, one, 3), conv(one, two, 3, 2), conv(two, four, 3, 2)])
        self.small = nn.ModuleList([SmallPicture(two), SmallPicture(four)])
        self.attend = nn.ModuleList([conv(channels, channels, 3, relu=False) for channels in (two, four)])
        self.encoders = nn.ModuleList([blocks(channels) for channels in (one, two, four)])
        self.fuse = nn.ModuleList(
            [
                nn.Sequential(conv(one + two + four, channels, 1), conv(channels, channels, 3, relu=False))
                for channels in (one, two)
            ]
        )
        self.decoders = nn.ModuleList([blocks(channels) for channels in (one, two, four)])
        self.up = nn.ModuleList([upsample(two), upsample(four)])
        self.join = nn.ModuleList([conv(two, one, 1), conv(four, two, 1)])
        self.to_picture = nn.ModuleList([conv(channels, 3, 3, relu=False) for channels in (one, two, four)])

    def forward(self, x: Tensor, all_scales: bool = False) -> Tensor | list[Tensor]:
        """Restore a batch of pictures.

        Args:
            x: The blurred pictures.
            all_scales: Return the pictures of all three sizes, finest first.
        """
        pictures = [x, interpolate(x, scale_factor=0.5), interpolate(x, scale_factor=0.25)]
        features = [self.encoders[0](self.down[0](x))]
        for level in (1, 2):
            deeper = self.down[level](features[-1])
            deeper = deeper + self.attend[level - 1](deeper * self.small[level - 1](pictures[level]))
            features.append(self.encoders[level](deeper))
        fused = [
            fuse(torch.cat([interpolate(one, size=features[level].shape[-2:]) for one in features], dim=1))
            for level, fuse in enumerate(self.fuse)
        ]
        deep = self.decoders[2](features[2])
        restored = [pictures[2] + self.to_picture[2](deep)]
        for level in (1, 0):
            deep = self.decoders[level](self.join[level](torch.cat([self.up[level](deep), fused[level]], dim=1)))
            restored.insert(0, pictures[level] + self.to_picture[level](deep))
        return restored if all_scales else restored[0]
