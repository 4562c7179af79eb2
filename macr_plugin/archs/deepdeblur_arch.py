"""DeepDeblur, the multi-scale network of the first end-to-end deblurring on GoPro, and its discriminator.

Seungjun Nah, Tae Hyun Kim, Kyoung Mu Lee: "Deep Multi-Scale Convolutional Neural Network for Dynamic Scene Deblurring",
CVPR 2017. Where the paper leaves a detail open, the authors' PyTorch code (SeungjunNah/DeepDeblur-PyTorch on GitHub)
decided.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from macr_plugin.archs.blocks import RGB_CHANNELS, ResidualBlock, conv
from macr_plugin.archs.padding import check_minimum_size, crop_to_size, pad_to_multiple
from macr_plugin.archs.pyramid import image_pyramid, scale_size
from macr_plugin.errors import InputError

#: Subtracted from the pictures before the first convolution and added after the last.
MID_GREY = 0.5


class DeepDeblur(nn.Module):
    """Three residual networks, one for each scale, from the coarsest to the finest.

    Each has weights of its own. All but the coarsest read the blurred picture of their scale and the result of the
    coarser scale, enlarged by a learned up-convolution (a 5x5 convolution to four times the channels, rearranged to
    twice the size). Nothing follows the additions of the residual blocks, and no skip leads round a whole network.

    Registered as ``DeepDeblur`` in BasicSR's ``ARCH_REGISTRY``.

    Args:
        num_feat: Channels of every convolution but the first and last of a scale. The paper: 64.
        num_blocks: Residual blocks of a scale. The paper: 19, which makes 40 convolutions.
        num_scales: Number of scales, full resolution included. The paper: 3.
        kernel_size: Kernel of every convolution, odd. The paper: 5.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), unclipped, for any H and W from :attr:`minimum_size` up.

    Raises:
        InputError: If ``num_scales`` or ``num_blocks`` is below 1, or a picture is too small.

    The default has 11,721,321 parameters, as the authors' PyTorch code, and takes 335.9 G multiply-accumulates at
    256x256. Its weights start as PyTorch's and Torch7's convolutions do. The scales are made by
    :func:`~macr_plugin.archs.pyramid.image_pyramid` where the authors use a Gaussian pyramid.

    Example:
        >>> DeepDeblur(num_feat=8, num_blocks=1)(torch.rand(1, 3, 37, 50)).shape
        torch.Size([1, 3, 37, 50])
    """

    def __init__(self, num_feat: int = 64, num_blocks: int = 19, num_scales: int = 3, kernel_size: int = 5) -> None:
        super().__init__()
        for name, value in {"num_scales": num_scales, "num_blocks": num_blocks}.items():
            if value < 1:
                raise InputError(f"network_g.{name} of DeepDeblur is at least 1, not {value}")
        self.num_scales = num_scales

        def network(in_channels: int) -> nn.Sequential:
            return nn.Sequential(
                conv(in_channels, num_feat, kernel_size),
                *(ResidualBlock(num_feat, kernel_size) for _ in range(num_blocks)),
                conv(num_feat, RGB_CHANNELS, kernel_size),
            )

        # Both lists finest first, as the pyramids.
        finer = num_scales - 1
        self.networks = nn.ModuleList([*(network(2 * RGB_CHANNELS) for _ in range(finer)), network(RGB_CHANNELS)])
        self.upsample = nn.ModuleList(
            nn.Sequential(conv(RGB_CHANNELS, 4 * RGB_CHANNELS, kernel_size), nn.PixelShuffle(2)) for _ in range(finer)
        )

    @property
    def minimum_size(self) -> int:
        """Smallest height and width in pixels: the coarsest scale then has one pixel."""
        return self.multiple_of

    @property
    def multiple_of(self) -> int:
        """What height and width are padded to, so that each scale is exactly twice as large as the one below it."""
        return 2 ** (self.num_scales - 1)

    def forward(self, x: Tensor, all_scales: bool = False) -> Tensor | list[Tensor]:
        """Restore a batch of blurred pictures.

        Args:
            x: Blurred pictures, shape (N, 3, H, W), RGB in [0, 1].
            all_scales: Return the restored pictures of every scale.

        Returns:
            The finest picture, shape (N, 3, H, W), unclipped; with ``all_scales`` the list of ``num_scales`` pictures,
            finest first, the k-th of size ceil(H / 2**k) x ceil(W / 2**k).
        """
        check_minimum_size(x, self.minimum_size, "DeepDeblur")
        size = (x.shape[-2], x.shape[-1])
        centred = image_pyramid(pad_to_multiple(x - MID_GREY, self.multiple_of), self.num_scales)
        restored = self.networks[-1](centred[-1])
        restored_pyramid = [restored]
        for scale in reversed(range(self.num_scales - 1)):
            enlarged = self.upsample[scale](restored)
            restored = self.networks[scale](torch.cat([centred[scale], enlarged], dim=1))
            restored_pyramid.insert(0, restored)
        pictures = [
            crop_to_size(picture, scale_size(size, scale)) + MID_GREY for scale, picture in enumerate(restored_pyramid)
        ]
        return pictures if all_scales else pictures[0]


class DeepDeblurDiscriminator(nn.Module):
    """Discriminator for the adversarial training of DeepDeblur: is a picture sharp, or restored?

    As in both of the authors' codes: 5x5 convolutions without bias, each followed by a leaky ReLU, down to 4x4 pixels
    for the crops of 256 that they use, then a 4x4 and a 1x1 convolution that take the place of dense layers. A crop of
    another size is averaged (or repeated) to 4x4 pixels at that point, so that there is one verdict a picture at any
    size; at 256 this changes nothing.

    Registered as ``DeepDeblurDiscriminator`` in BasicSR's ``ARCH_REGISTRY``.

    Args:
        num_feat: Channels that the layers are multiples of. The paper: 64.
        kernel_size: Kernel of all but the last two convolutions, odd. The paper: 5.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 1, 1, 1), a logit: above 0 means sharp. Any H and W.

    The default has 10,725,216 parameters, as in the authors' PyTorch code.

    Example:
        >>> DeepDeblurDiscriminator(num_feat=8)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 1, 1, 1])
    """

    #: Side in pixels of what the dense layers see: a crop of 256 after all strides.
    dense_size = 4

    def __init__(self, num_feat: int = 64, kernel_size: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = RGB_CHANNELS
        # Output channels in halves of num_feat, and stride.
        for halves, stride in ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 4), (8, 1), (8, 4), (16, 1)):
            width = halves * num_feat // 2
            layers.append(nn.Conv2d(channels, width, kernel_size, stride, kernel_size // 2, bias=False))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            channels = width
        self.features = nn.Sequential(*layers)
        self.dense = nn.Conv2d(channels, channels, self.dense_size, bias=False)
        self.verdict = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Judge a batch of pictures.

        Args:
            x: Sharp or restored pictures, shape (N, 3, H, W), RGB in [0, 1].

        Returns:
            A logit for each, shape (N, 1, 1, 1).
        """
        features = functional.adaptive_avg_pool2d(self.features(x), self.dense_size)
        return self.verdict(functional.leaky_relu(self.dense(features), 0.2))
