"""Networks: plain ``torch.nn.Module`` classes that need neither BasicSR nor a GPU."""

from macr_plugin.archs.blocks import DenseConnectionBlock, ResidualBlock, ResidualDenseBlock
from macr_plugin.archs.macr_arch import ACRB, MACR, MSRM

__all__ = ["ACRB", "MACR", "MSRM", "DenseConnectionBlock", "ResidualBlock", "ResidualDenseBlock"]
