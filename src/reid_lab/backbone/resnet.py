"""ResNets (He et al., CVPR 2016) by torchvision: four stages, stride in the 3x3."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
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
        depth: number of layers.
        weights: `imagenet`, None for scratch, or the path of torchvision's state dict or of a
            checkpoint of ours with this backbone.
        last_stride: 1 leaves stage 4 at 1/16 as in PLA: finer maps, the same weights.
        stem_pool: `ceil`: the stem's max-pool has no padding and rounds its size up, as in
            fast-reid; the maps have the same size.
        ibn: instance norm on half of the channels of each block's first norm, in stages 1 to 3
            (IBN-a, Pan et al., ECCV 2018).

    Raises:
        ValueError: `ibn` with a depth of less than 50.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50],
        weights: str | Path | None = None,
        last_stride: Literal[1, 2] = 2,
        stem_pool: Literal["padded", "ceil"] = "padded",
        ibn: bool = False,
    ) -> None:
        network = getattr(models, f"resnet{depth}")(weights=None)
        if stem_pool == "ceil":
            network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        if ibn:
            _mix_norms(depth, network)
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


class MixedNorm(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the others (IBN-a)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.IN = nn.InstanceNorm2d(half, affine=True)
        self.BN = nn.BatchNorm2d(channels - half)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.split([self.IN.num_features, self.BN.num_features], 1)
        return torch.cat([self.IN(first), self.BN(second)], 1)


def _mix_norms(depth: int, network: models.ResNet) -> None:
    if depth < 50:
        raise ValueError(f"ibn=true needs depth=50, given depth={depth}")
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            block.bn1 = MixedNorm(block.bn1.num_features)


def _keep_size(stage: nn.Module) -> None:
    """Set stride 1 where a convolution of the stage halves its input."""
    for part in stage.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
