"""SRN-DeblurNet, the scale-recurrent network.

Xin Tao, Hongyun Gao, Xiaoyong Shen, Jue Wang, Jiaya Jia: "Scale-Recurrent Network for Deep Image Deblurring", CVPR
2018. Where the paper leaves a detail open, the authors' TensorFlow code (jiangsutx/SRN-Deblur on GitHub) decided.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from macr_plugin.archs.blocks import RGB_CHANNELS, ResidualBlock, conv, initialize_glorot
from macr_plugin.archs.padding import check_minimum_size, crop_to_size, pad_to_multiple
from macr_plugin.archs.pyramid import image_pyramid, resize, scale_size
from macr_plugin.errors import InputError

KERNEL_SIZE = 5

#: Hidden state and cell of the recurrence, each (N, C, H, W).
State = tuple[Tensor, Tensor]


class EncoderBlock(nn.Sequential):
    """EBlock: a convolution with ReLU, then residual blocks.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the convolution.
        num_blocks: Number of residual blocks.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride), features of any value
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, num_blocks: int) -> None:
        super().__init__(
            conv(in_channels, out_channels, KERNEL_SIZE, stride),
            nn.ReLU(inplace=True),
            *(ResidualBlock(out_channels, KERNEL_SIZE) for _ in range(num_blocks)),
        )


class DecoderBlock(nn.Sequential):
    """DBlock: residual blocks, then a transposed convolution to twice the size with ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        num_blocks: Number of residual blocks.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, 2 H, 2 W), features of any value
    """

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int) -> None:
        super().__init__(
            *(ResidualBlock(in_channels, KERNEL_SIZE) for _ in range(num_blocks)),
            nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )


class ConvLSTM(nn.Module):
    """Convolutional long short-term memory: one 3x3 convolution for all four gates, no peepholes.

    Args:
        num_feat: Channels of input, hidden state and cell.

    Shape:
        (N, num_feat, H, W), with a state of the same shape -> (N, num_feat, H, W) and the new state

    A 1 is added to the forget gate, so that the cell is kept at first.

    Example:
        >>> hidden, cell = ConvLSTM(num_feat=8)(torch.rand(1, 8, 6, 7), None)
        >>> hidden.shape, cell.shape
        (torch.Size([1, 8, 6, 7]), torch.Size([1, 8, 6, 7]))
    """

    def __init__(self, num_feat: int = 128) -> None:
        super().__init__()
        self.gates = conv(2 * num_feat, 4 * num_feat, 3)

    def forward(self, x: Tensor, state: State | None) -> State:
        """Take one step.

        Args:
            x: Features, shape (N, num_feat, H, W), of any value.
            state: Hidden state and cell, each of that shape; None at the first step, for zeros.

        Returns:
            New hidden state in [-1, 1], which is the output, and new cell, both of that shape.
        """
        hidden, cell = state if state is not None else (torch.zeros_like(x), torch.zeros_like(x))
        admit, candidate, keep, emit = self.gates(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
        cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(admit) * torch.tanh(candidate)
        return torch.sigmoid(emit) * torch.tanh(cell), cell


class SRNDeblurNet(nn.Module):
    """One encoder-decoder of residual blocks with shared weights, run from the coarsest scale to the finest.

    At every scale it reads the blurred picture of that scale together with the enlarged result of the coarser scale
    (the coarsest scale reads its own input twice). With ``lstm`` a recurrence between encoder and decoder carries its
    state, enlarged, from scale to scale. Features of the encoder are added to the decoder's of the same size; there is
    no skip from the blurred picture to the result.

    Registered as ``SRNDeblurNet`` in BasicSR's ``ARCH_REGISTRY``.

    Args:
        num_feat: Channels at full size; twice and four times as many at half and quarter size. The paper: 32.
        num_blocks: Residual blocks in each block of the encoder and the decoder. The paper: 3.
        num_scales: Number of scales, full resolution included. The paper: 3.
        lstm: Use the recurrence, as the paper does. The authors' later models go without.
        detach_coarser: Stop the gradient where a scale reads the result of the coarser one, as the authors' code does;
            the paper does not mention it. The recurrence keeps its gradient.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), unclipped, for any H and W from :attr:`minimum_size` up.

    Raises:
        InputError: If ``num_scales`` is below 1, or a picture is too small.

    Without ``lstm`` the default has 6,881,251 parameters and takes 83.5 G multiply-accumulates at 256x256; the
    recurrence adds 1,180,160 parameters. Weights start Glorot uniform, those of the recurrence normal with a
    standard deviation of 0.001, truncated at two of them, and biases at zero, as in the authors' code.

    Two details differ from the authors' TensorFlow code. Scales are made, and results enlarged, by
    :func:`~macr_plugin.archs.pyramid.resize` where they use TensorFlow 1's bilinear resizing, which does not filter.
    And TensorFlow pads an even picture by one pixel less before the first row and column than after the last, so that
    weights of their code would have to be turned by 180 degrees, and the pictures with them.

    Example:
        >>> SRNDeblurNet(num_feat=8, num_blocks=1)(torch.rand(1, 3, 37, 50)).shape
        torch.Size([1, 3, 37, 50])
    """

    def __init__(
        self,
        num_feat: int = 32,
        num_blocks: int = 3,
        num_scales: int = 3,
        lstm: bool = False,
        detach_coarser: bool = True,
    ) -> None:
        super().__init__()
        if num_scales < 1:
            raise InputError(f"network_g.num_scales of SRNDeblurNet is at least 1, not {num_scales}")
        self.num_scales = num_scales
        self.detach_coarser = detach_coarser

        self.encoder1 = EncoderBlock(2 * RGB_CHANNELS, num_feat, 1, num_blocks)
        self.encoder2 = EncoderBlock(num_feat, 2 * num_feat, 2, num_blocks)
        self.encoder3 = EncoderBlock(2 * num_feat, 4 * num_feat, 2, num_blocks)
        self.lstm = ConvLSTM(4 * num_feat) if lstm else None
        self.decoder3 = DecoderBlock(4 * num_feat, 2 * num_feat, num_blocks)
        self.decoder2 = DecoderBlock(2 * num_feat, num_feat, num_blocks)
        self.decoder1 = nn.Sequential(
            *(ResidualBlock(num_feat, KERNEL_SIZE) for _ in range(num_blocks)),
            conv(num_feat, RGB_CHANNELS, KERNEL_SIZE),
        )
        self.apply(initialize_glorot)
        if self.lstm is not None:
            nn.init.trunc_normal_(self.lstm.gates.weight, std=1e-3, a=-2e-3, b=2e-3)

    @property
    def multiple_of(self) -> int:
        """What height and width are padded to: the strides of the coarsest scale then divide its size."""
        return 4 * 2 ** (self.num_scales - 1)

    @property
    def minimum_size(self) -> int:
        """Smallest height and width in pixels: the coarsest scale then fills one cell of the deepest layer."""
        return self.multiple_of

    def forward(self, x: Tensor, all_scales: bool = False) -> Tensor | list[Tensor]:
        """Restore a batch of blurred pictures.

        Args:
            x: Blurred pictures, shape (N, 3, H, W), RGB in [0, 1].
            all_scales: Return the restored pictures of every scale.

        Returns:
            The finest picture, shape (N, 3, H, W), unclipped; with ``all_scales`` the list of ``num_scales`` pictures,
            finest first, the k-th of size ceil(H / 2**k) x ceil(W / 2**k).
        """
        check_minimum_size(x, self.minimum_size, "SRNDeblurNet")
        size = (x.shape[-2], x.shape[-1])
        blurred_pyramid = image_pyramid(pad_to_multiple(x, self.multiple_of), self.num_scales)
        restored_pyramid: list[Tensor] = []
        coarser, state = blurred_pyramid[-1], None
        for blurred in reversed(blurred_pyramid):
            coarser, state = self.restore_scale(blurred, coarser, state)
            restored_pyramid.insert(0, coarser)
        pictures = [crop_to_size(picture, scale_size(size, scale)) for scale, picture in enumerate(restored_pyramid)]
        return pictures if all_scales else pictures[0]

    def restore_scale(self, blurred: Tensor, coarser: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """Restore one scale.

        Args:
            blurred: Blurred picture of this scale, shape (N, 3, h, w), RGB in [0, 1]; 4 divides h and w.
            coarser: Restored picture of the coarser scale, shape (N, 3, h', w') of any size.
            state: State of the recurrence after the coarser scale, of any size; None at the first or without one.

        Returns:
            Restored picture, shape (N, 3, h, w), and the state of the recurrence, None without one.
        """
        size = (blurred.shape[-2], blurred.shape[-1])
        coarser = resize(coarser.detach() if self.detach_coarser else coarser, size)
        full = self.encoder1(torch.cat([blurred, coarser], dim=1))
        half = self.encoder2(full)
        features = self.encoder3(half)
        if self.lstm is not None:
            if state is not None:
                deepest = (features.shape[-2], features.shape[-1])
                state = resize(state[0], deepest), resize(state[1], deepest)
            state = self.lstm(features, state)
            features = state[0]
        return self.decoder1(self.decoder2(self.decoder3(features) + half) + full), state
