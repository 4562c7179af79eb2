"""MACR, the multi-scale alternating connection residual network, and the two building blocks that are its own.

Chen Qingjiang, Hu Qiannan, Li Jinyang: "Image deblurring based on multi-scale alternating connection residual network",
Optics and Precision Engineering 29(7):1686-1694, 2021. ``docs/paper.md`` lists what the paper states, what it leaves
open and what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from macr_plugin.archs.blocks import (
    RGB_CHANNELS,
    DenseConnectionBlock,
    ResidualBlock,
    ResidualDenseBlock,
    concatenate,
    conv,
    initialize_glorot,
)
from macr_plugin.archs.padding import check_minimum_size, crop_to_size, pad_to_multiple
from macr_plugin.archs.pyramid import image_pyramid, resize
from macr_plugin.errors import InputError

#: Names of the backbone's blocks. Saved files hold places in it: append only.
BLOCKS = ("acrb", "resblock", "dcb", "rdb")
#: How torch ends the key of what ``get_extra_state`` returns: an entry of a state dict that is no weight.
EXTRA_STATE = "_extra_state"


class MSRM(nn.Module):
    """Multi-scale residual module: the feature extraction of every scale (Fig. 2 and Table 2).

    Four parallel branches with 1x1, 3x3, 5x5 and 7x7 kernels are concatenated and fused by a 3x3 convolution; the input
    is added to the result. A ReLU follows every convolution.

    Args:
        num_feat: Channels of input and output.
        branch_channels: Channels of each branch.

    Shape:
        (N, num_feat, H, W) -> (N, num_feat, H, W), features of any value

    Example:
        >>> MSRM(num_feat=8, branch_channels=2)(torch.rand(1, 8, 6, 7)).shape
        torch.Size([1, 8, 6, 7])
    """

    kernel_sizes = (1, 3, 5, 7)

    def __init__(self, num_feat: int = 64, branch_channels: int = 16) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(num_feat, branch_channels, size) for size in self.kernel_sizes)
        self.fuse = conv(branch_channels * len(self.kernel_sizes), num_feat, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Extract and fuse features of four receptive fields, as a residual of ``x``."""
        features = concatenate([branch(x) for branch in self.branches])
        return x + self.relu(self.fuse(self.relu(features)))


class ACRB(nn.Module):
    """Alternating connection residual block: the backbone of the network (Fig. 3 and Table 3).

    Pairs of operations, a plain 3x3 convolution followed by a dilated one, form two dense streams that cross: every
    first operation reads the input and the outputs of all earlier second operations, every second operation reads the
    outputs of all first operations up to its own pair::

        a1 = first1(x)            b1 = second1(a1)
        a2 = first2([x, b1])      b2 = second2([a1, a2])
        a3 = first3([x, b1, b2])  b3 = second3([a1, a2, a3])
        out = x + fuse([x, b1, b2, b3])

    So the first operation of a pair interacts with the second operation of every later pair, as the paper demands. A
    ReLU follows each 3x3 convolution, none the 1x1 convolution that fuses.

    Args:
        num_feat: Channels of input, output and of every operation.
        dilations: Dilation of the second operation of each pair; its length is the number of pairs.
        fuse_inputs: What the last convolution sees: ``"second"`` for the input and the outputs of the second
            operations, ``"all"`` for the outputs of all operations.

    Shape:
        (N, num_feat, H, W) -> (N, num_feat, H, W), features of any value

    Example:
        >>> ACRB(num_feat=8)(torch.rand(1, 8, 6, 7)).shape
        torch.Size([1, 8, 6, 7])
    """

    def __init__(
        self,
        num_feat: int = 64,
        dilations: Sequence[int] = (2, 3, 4),
        fuse_inputs: Literal["second", "all"] = "second",
    ) -> None:
        super().__init__()
        if fuse_inputs not in ("second", "all"):
            raise InputError(f"fuse_inputs is 'second' or 'all', not {fuse_inputs!r}")
        self.fuse_inputs = fuse_inputs
        pairs = range(1, len(dilations) + 1)
        self.first = nn.ModuleList(conv(num_feat * pair, num_feat, 3) for pair in pairs)
        self.second = nn.ModuleList(
            conv(num_feat * pair, num_feat, 3, dilation=dilation)
            for pair, dilation in zip(pairs, dilations, strict=True)
        )
        num_fused = 1 + len(dilations) if fuse_inputs == "second" else 2 * len(dilations)
        self.fuse = conv(num_feat * num_fused, num_feat, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Run the crossing streams and add their fusion to ``x``."""
        first_outputs: list[Tensor] = []
        second_outputs: list[Tensor] = []
        for first, second in zip(self.first, self.second, strict=True):
            first_outputs.append(self.relu(first(concatenate([x, *second_outputs]))))
            second_outputs.append(self.relu(second(concatenate(first_outputs))))
        if self.fuse_inputs == "second":
            fused = self.fuse(concatenate([x, *second_outputs]))
        else:
            alternating = [output for pair in zip(first_outputs, second_outputs, strict=True) for output in pair]
            fused = self.fuse(concatenate(alternating))
        return x + fused


class MACR(nn.Module):
    """Multi-scale alternating connection residual network for motion deblurring (Fig. 1 and Table 1).

    The blurred picture is down-sampled to ``num_scales`` scales. From the coarsest to the finest, one network with
    shared weights reads the blurred picture of that scale together with the up-sampled result of the coarser scale (the
    coarsest scale reads its own input twice) and returns the restored picture of that scale.

    Registered as ``MACR`` in BasicSR's ``ARCH_REGISTRY``.

    Args:
        num_feat: Channels of every convolution but those of the MSRM branches. Stated: 64.
        num_blocks: Number of blocks in the backbone. Open in the paper.
        num_scales: Number of scales, full resolution included. Stated: 3; Table 5 compares 1, 2 and 3.
        dilations: Dilations of the ACRBs' second operations; other blocks have none. Stated: 2, 3, 4.
        branch_channels: Channels of each MSRM branch. Stated: 16.
        num_msrm: Number of MSRMs, all at full size, before the first stride. Open in the paper.
        skip_connections: Add the encoder's features to the decoder's at half and full size. Open in the paper.
        global_skip: Add the blurred picture of a scale to the last convolution's output. Open in the paper, which only
            says that a residual model is used.
        fuse_inputs: What each ACRB's last convolution sees, ``"second"`` or ``"all"``; other blocks ignore it. Open in
            the paper; see :class:`ACRB`.
        block: What the backbone is stacked from: ``"acrb"``, ``"resblock"``, ``"dcb"`` or ``"rdb"``, which Table 6
            compares; see ``macr_plugin.archs.blocks``. Stated: ACRB.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), unclipped, for any H and W from :attr:`minimum_size` up.

    Raises:
        InputError: If ``num_scales`` or ``num_blocks`` is below 1, ``block`` is unknown, or a picture is too small.

    Beside the weights, the state dict has an entry ``_extra_state``, which tells the options that no weight's shape
    tells; see :meth:`get_extra_state`.

    The default has 4,006,915 parameters. Weights start Glorot uniform and biases at zero, the default of the TensorFlow
    that the authors used; the second convolution of a residual block starts at a tenth of that.

    Example:
        >>> network = MACR(num_feat=8, num_blocks=1)
        >>> network(torch.rand(1, 3, 37, 50)).shape
        torch.Size([1, 3, 37, 50])
        >>> [tuple(picture.shape[-2:]) for picture in network(torch.rand(1, 3, 37, 50), all_scales=True)]
        [(37, 50), (19, 25), (10, 13)]
    """

    #: Product of the strides inside one scale: what its height and width are padded to.
    multiple_of = 4

    def __init__(
        self,
        num_feat: int = 64,
        num_blocks: int = 8,
        num_scales: int = 3,
        dilations: Sequence[int] = (2, 3, 4),
        branch_channels: int = 16,
        num_msrm: int = 1,
        skip_connections: bool = False,
        global_skip: bool = True,
        fuse_inputs: Literal["second", "all"] = "second",
        block: Literal["acrb", "resblock", "dcb", "rdb"] = "acrb",
    ) -> None:
        super().__init__()
        for name, value in {"num_scales": num_scales, "num_blocks": num_blocks}.items():
            if value < 1:
                raise InputError(f"network_g.{name} of MACR is at least 1, not {value}")
        blocks: dict[str, Callable[[], nn.Module]] = {
            "acrb": lambda: ACRB(num_feat, dilations, fuse_inputs),
            "resblock": lambda: ResidualBlock(num_feat),
            "dcb": lambda: DenseConnectionBlock(num_feat),
            "rdb": lambda: ResidualDenseBlock(num_feat),
        }
        if block not in BLOCKS:
            raise InputError(f"network_g.block of MACR is one of {', '.join(BLOCKS)}, not {block!r}")
        self.num_scales = num_scales
        self.skip_connections = skip_connections
        self.global_skip = global_skip
        self._block_options = (fuse_inputs == "all", BLOCKS.index(block), *(dilations or ()))

        self.conv1 = conv(2 * RGB_CHANNELS, num_feat, 3)
        self.msrm = nn.Sequential(*(MSRM(num_feat, branch_channels) for _ in range(num_msrm)))
        self.conv2 = conv(num_feat, num_feat, 3, stride=2)
        self.conv3 = conv(num_feat, num_feat, 3, stride=2)
        self.blocks = nn.Sequential(*(blocks[block]() for _ in range(num_blocks)))
        self.upsample1 = nn.ConvTranspose2d(num_feat, num_feat, 4, stride=2, padding=1)
        self.upsample2 = nn.ConvTranspose2d(num_feat, num_feat, 4, stride=2, padding=1)
        self.reconstruct = conv(num_feat, RGB_CHANNELS, 3)
        self.relu = nn.ReLU(inplace=True)
        self.apply(initialize_glorot)
        self.apply(_begin_near_identity)

    @property
    def minimum_size(self) -> int:
        """Smallest height and width in pixels: the coarsest scale then still fills one cell of the deepest layer."""
        return self.multiple_of * 2 ** (self.num_scales - 1)

    def get_extra_state(self) -> Tensor:
        """Tell the options that no weight's shape tells, for programs that have the state dict alone.

        An extra state rather than a buffer: data parallel training would broadcast a buffer in every step, and exported
        graphs would carry it.

        Returns:
            int64, shape (5 + number of dilations,): ``num_scales``, ``skip_connections``, ``global_skip``, whether
            ``fuse_inputs`` is ``"all"``, the place of ``block`` in :data:`BLOCKS`, then ``dilations``.
        """
        options = (self.num_scales, self.skip_connections, self.global_skip, *self._block_options)
        return torch.tensor(options, dtype=torch.int64, device=self.conv1.weight.device)

    def set_extra_state(self, state: Tensor) -> None:
        """Ignore ``state``, int64 of any shape (K,): the constructor's arguments decide."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Files from before there was this entry fit as well.
        state_dict.setdefault(f"{prefix}{EXTRA_STATE}", self.get_extra_state())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor, all_scales: bool = False) -> Tensor | list[Tensor]:
        """Restore a batch of blurred pictures.

        Args:
            x: Blurred pictures, shape (N, 3, H, W), RGB in [0, 1].
            all_scales: Return the restored pictures of every scale.

        Returns:
            The finest picture, shape (N, 3, H, W), unclipped; with ``all_scales`` the list of ``num_scales`` pictures,
            finest first, the k-th of size ceil(H / 2**k) x ceil(W / 2**k).
        """
        check_minimum_size(x, self.minimum_size, "MACR")
        blurred_pyramid = image_pyramid(x, self.num_scales)
        restored_pyramid: list[Tensor] = []
        coarser = blurred_pyramid[-1]
        for blurred in reversed(blurred_pyramid):
            coarser = self.restore_scale(blurred, coarser)
            restored_pyramid.insert(0, coarser)
        return restored_pyramid if all_scales else restored_pyramid[0]

    def restore_scale(self, blurred: Tensor, coarser: Tensor) -> Tensor:
        """Restore one scale.

        Args:
            blurred: Blurred picture X_i of this scale, shape (N, 3, h, w), RGB in [0, 1].
            coarser: Restored picture Y_(i-1) of the coarser scale, shape (N, 3, h', w') of any size.

        Returns:
            Restored picture Y_i, shape (N, 3, h, w), unclipped.
        """
        height, width = blurred.shape[-2:]
        both = torch.cat([blurred, resize(coarser, (height, width))], dim=1)
        full = self.msrm(self.relu(self.conv1(pad_to_multiple(both, self.multiple_of))))
        half = self.relu(self.conv2(full))
        features = self.blocks(self.relu(self.conv3(half)))
        features = self.relu(self.upsample1(features))
        if self.skip_connections:
            features = features + half
        features = self.relu(self.upsample2(features))
        if self.skip_connections:
            features = features + full
        restored = crop_to_size(self.reconstruct(features), (height, width))
        return blurred + restored if self.global_skip else restored


def _begin_near_identity(module: nn.Module) -> None:
    """Take the residual of a residual block down to a tenth.

    Fifty of them cost what 8 ACRBs cost, and would otherwise start out multiplying the features by some 40,000.
    """
    if isinstance(module, ResidualBlock):
        with torch.no_grad():
            module.conv2.weight.mul_(0.1)
