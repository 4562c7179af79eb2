"""What the networks are made of: convolution, initial weights, and the blocks of Table 6 beside the paper's own.

The paper names the residual dense block, the dense connection block and the classic residual block, and gives none of
their sizes. Each is built here as its source builds it (the paper's reference for the last leads to AlexNet: He et al.
is meant), scales with ``num_feat`` and goes without batch normalisation, which restoration networks leave out since
Lim et al. (EDSR, CVPR workshops 2017). Parameters at 64 channels, biases included; the multiply-accumulates stand in
the same ratio, since every convolution keeps the size:

===============================  ==========  ======================
Block                            Parameters  Relative to the ACRB
===============================  ==========  ======================
:class:`ResidualBlock`               73,856  0.16
:class:`DenseConnectionBlock`       150,720  0.33
``ACRB``                            459,200  1
:class:`ResidualDenseBlock`       1,364,544  2.97
===============================  ==========  ======================

So block for block the ACRB is cheaper than the residual dense block and more expensive than the two others; the paper
claims that it is cheaper than all three.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RGB_CHANNELS = 3


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution whose output has the input's size divided by ``stride``."""
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation)


def concatenate(features: Sequence[Tensor]) -> Tensor:
    """Concatenate along the channels; a single tensor is not copied.

    Args:
        features: Tensors (N, C_i, H, W) of any value, at least one.

    Returns:
        Shape (N, sum of C_i, H, W); the very same tensor if it is the only one.

    Example:
        >>> concatenate([torch.zeros(1, 2, 4, 4), torch.ones(1, 3, 4, 4)]).shape
        torch.Size([1, 5, 4, 4])
    """
    return features[0] if len(features) == 1 else torch.cat(list(features), dim=1)


def initialize_glorot(module: nn.Module) -> None:
    """Set the initial weights of a convolution as TensorFlow does: Glorot uniform, biases zero.

    Args:
        module: Any module; only a convolution is changed, so this goes to :meth:`torch.nn.Module.apply`.
    """
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ResidualBlock(nn.Module):
    """Classic residual block: ``x + conv2(relu(conv1(x)))``.

    He et al. (CVPR 2016) in the form of the deblurring and super-resolution networks: neither batch normalisation nor
    a ReLU after the addition (Nah et al., CVPR 2017, who take 5x5 kernels; EDSR). 73,856 parameters at 64 channels.

    Args:
        num_feat: Channels of input, output and of what lies between.
        kernel_size: Kernel of both convolutions, odd.

    Shape:
        (N, num_feat, H, W) -> (N, num_feat, H, W), features of any value

    Example:
        >>> ResidualBlock(num_feat=8)(torch.rand(1, 8, 6, 7)).shape
        torch.Size([1, 8, 6, 7])
    """

    def __init__(self, num_feat: int = 64, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv1 = conv(num_feat, num_feat, kernel_size)
        self.conv2 = conv(num_feat, num_feat, kernel_size)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to ``x``."""
        return x + self.conv2(self.relu(self.conv1(x)))


class DenseConnectionBlock(nn.Module):
    """Dense connection block: every 3x3 convolution reads the block's input and the outputs of all earlier ones.

    The connections are those of Huang et al. (DenseNet, CVPR 2017), which the paper cites: a layer reads
    ``[x, y1, ..., y(l-1)]``. Eight layers of 16 channels are the dense block of Tong et al. (SRDenseNet, ICCV 2017),
    who took it to restoration with a ReLU after each convolution. A 1x1 convolution over input and outputs reduces to
    ``num_feat``, as DenseNet's transition layers do; nothing is added to its result. 150,720 parameters at 64 channels.

    Args:
        num_feat: Channels of input and output.
        growth_rate: Channels of each layer. Default: a quarter of ``num_feat``, 16 at 64 channels.
        num_layers: Number of 3x3 convolutions.

    Shape:
        (N, num_feat, H, W) -> (N, num_feat, H, W), features of any value

    Example:
        >>> DenseConnectionBlock(num_feat=8)(torch.rand(1, 8, 6, 7)).shape
        torch.Size([1, 8, 6, 7])
    """

    def __init__(self, num_feat: int = 64, growth_rate: int | None = None, num_layers: int = 8) -> None:
        super().__init__()
        growth_rate = growth_rate or max(1, num_feat // 4)
        self.layers = nn.ModuleList(conv(num_feat + layer * growth_rate, growth_rate, 3) for layer in range(num_layers))
        self.fuse = conv(num_feat + num_layers * growth_rate, num_feat, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Fuse ``x`` and the outputs of all layers."""
        features = x
        for layer in self.layers:
            features = torch.cat([features, self.relu(layer(features))], dim=1)
        return self.fuse(features)


class ResidualDenseBlock(DenseConnectionBlock):
    """Residual dense block: densely connected 3x3 convolutions, local feature fusion, local residual learning.

    Zhang et al. (RDN, CVPR 2018): a ReLU after each 3x3 convolution, a 1x1 convolution that fuses input and outputs,
    and the input added to it. Eight layers of 64 channels are RDN's published network (D = 16, C = 8, G = 64):
    1,364,544 parameters. Its smaller one (D = 20, C = 6, G = 32) has 265,472 in a block.

    Args:
        num_feat: Channels of input and output (G0).
        growth_rate: Channels of each layer (G). Default: ``num_feat``.
        num_layers: Number of 3x3 convolutions (C).

    Shape:
        (N, num_feat, H, W) -> (N, num_feat, H, W), features of any value

    Example:
        >>> ResidualDenseBlock(num_feat=8)(torch.rand(1, 8, 6, 7)).shape
        torch.Size([1, 8, 6, 7])
    """

    def __init__(self, num_feat: int = 64, growth_rate: int | None = None, num_layers: int = 8) -> None:
        super().__init__(num_feat, growth_rate or num_feat, num_layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add the fusion to ``x``."""
        return x + super().forward(x)
