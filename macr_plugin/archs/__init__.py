"""Networks: plain ``torch.nn.Module`` classes that need neither BasicSR nor a GPU."""

from macr_plugin.archs.macr_arch import ACRB, MACR, MSRM
from macr_plugin.archs.spandrel_arch import SpandrelNet

__all__ = ["ACRB", "MACR", "MSRM", "SpandrelNet"]
