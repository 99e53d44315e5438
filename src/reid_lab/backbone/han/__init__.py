"""The Harmonious Attention Network and its parts."""

from reid_lab.backbone.han.attention import crop
from reid_lab.backbone.han.network import HarmoniousAttentionNetwork
from reid_lab.backbone.han.units import ConvNorm, LocalNorm, Resampling, Size, Unit

__all__ = [
    "ConvNorm",
    "HarmoniousAttentionNetwork",
    "LocalNorm",
    "Resampling",
    "Size",
    "Unit",
    "crop",
]
