"""ResNets (He et al., CVPR 2016) by torchvision: four stages, stride in the 3x3."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import nn
from torchvision import models

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import Published, load_weights

CHANNELS = {
    18: (64, 128, 256, 512),
    34: (64, 128, 256, 512),
    50: (256, 512, 1024, 2048),
}
IMAGENET = {
    18: models.ResNet18_Weights.IMAGENET1K_V1,
    34: models.ResNet34_Weights.IMAGENET1K_V1,
    50: models.ResNet50_Weights.IMAGENET1K_V1,
}


class ResNet(Backbone):
    """ResNet-18, -34 or -50; stage s ends where `conv{s+1}_x` does, at 1/4 to 1/32.

    Args:
        weights: `imagenet`, None for scratch, or the path of torchvision's state dict or of a
            checkpoint of ours with this backbone.
        last_stride: 1 leaves stage 4 at 1/16, as PLA has it: finer maps, no more weights.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50],
        weights: str | Path | None = None,
        last_stride: Literal[1, 2] = 2,
    ) -> None:
        network = getattr(models, f"resnet{depth}")(weights=None)
        if last_stride == 1:
            _keep_size(network.layer4)
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        stages: dict[str, nn.Module] = {
            "stage1": nn.Sequential(stem, network.layer1),
            "stage2": network.layer2,
            "stage3": network.layer3,
            "stage4": network.layer4,
        }
        super().__init__(stages, CHANNELS[depth])
        load_weights(self, weights, Published(network, IMAGENET[depth]))


def _keep_size(stage: nn.Module) -> None:
    """Stride 1 wherever a convolution of the stage halves its input."""
    for part in stage.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
