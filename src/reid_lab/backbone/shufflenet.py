"""ShuffleNet v2 (Ma et al., ECCV 2018) by torchvision."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torchvision import models

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import Published, load_weights


class ShuffleNet(Backbone):
    """ShuffleNet v2 at width 1: four stages at 1/8 to 1/32, the last a wider 1x1 convolution.

    HAN's table 7 has v1, which no maintained library has; v2 costs about the same (146 M Mul-Adds
    at 224x224, v1 at width 1: 140 M).

    Args:
        weights: see `ResNet`.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        network = models.shufflenet_v2_x1_0(weights=None)
        stages: dict[str, nn.Module] = {
            "stage1": nn.Sequential(network.conv1, network.maxpool, network.stage2),
            "stage2": network.stage3,
            "stage3": network.stage4,
            "stage4": network.conv5,
        }
        super().__init__(stages, (116, 232, 464, 1024))
        imagenet = models.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1
        load_weights(self, weights, Published(network, imagenet))
