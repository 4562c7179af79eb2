"""Training losses of MACR."""

from macr_plugin.losses.structural_loss import MACRLoss, MACRMSSSIMLoss, MACRSSIMLoss

__all__ = ["MACRLoss", "MACRMSSSIMLoss", "MACRSSIMLoss"]
