"""Networks: plain ``torch.nn.Module`` classes that need neither BasicSR nor a GPU."""

from macr_plugin.archs.blocks import DenseConnectionBlock, ResidualBlock, ResidualDenseBlock
from macr_plugin.archs.deepdeblur_arch import DeepDeblur, DeepDeblurDiscriminator
from macr_plugin.archs.macr_arch import ACRB, MACR, MSRM
from macr_plugin.archs.spandrel_arch import SpandrelNet
from macr_plugin.archs.srn_arch import SRNDeblurNet
from macr_plugin.archs.sun_arch import SunMotionNet

__all__ = [
    "ACRB",
    "MACR",
    "MSRM",
    "DeepDeblur",
    "DeepDeblurDiscriminator",
    "DenseConnectionBlock",
    "ResidualBlock",
    "ResidualDenseBlock",
    "SRNDeblurNet",
    "SpandrelNet",
    "SunMotionNet",
]
