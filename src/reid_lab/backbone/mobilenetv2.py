"""MobileNetV2 (Sandler et al., CVPR 2018) by torchvision, in four stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from torch import nn
from torchvision import models
from torchvision.ops.misc import Conv2dNormActivation

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import Published, load_weights

# the last of torchvision's `features` in each stage, and its channels
ENDS = {"stage1": (3, 24), "stage2": (6, 32), "stage3": (13, 96), "stage4": (18, 1280)}


class MobileNetV2(Backbone):
    """Four stages at 1/4 to 1/32 with 24, 32, 96 and 1280 channels.

    Args:
        weights: see `ResNet`; `imagenet` takes those of `reid-lab weights fetch mobilenetv2` if
            they are in the cache.
        first_expansion: the first block begins with a 1x1 convolution, as in torchreid; ImageNet
            weights have none.
        last_stride: 1 leaves stage 4 at 1/16: finer maps, the same weights.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        first_expansion: bool = False,
        last_stride: Literal[1, 2] = 2,
    ) -> None:
        network = models.mobilenet_v2(weights=None)
        if first_expansion:
            relu6 = nn.ReLU6
            expansion = Conv2dNormActivation(32, 32, kernel_size=1, activation_layer=relu6)
            network.features[1].conv.insert(0, expansion)
        if last_stride == 1:
            network.features[14].conv[1][0].stride = (1, 1)
        stages: dict[str, nn.Module] = {}
        begin = 0
        for name, (end, _) in ENDS.items():
            stages[name] = nn.Sequential(*network.features[begin : end + 1])
            begin = end + 1
        super().__init__(stages, tuple(channels for _, channels in ENDS.values()))
        imagenet = models.MobileNet_V2_Weights.IMAGENET1K_V1
        load_weights(self, weights, Published(network, imagenet, fetched="mobilenetv2"))


def of_torchvision(key: str) -> str | None:
    """torchvision's key -> ours; None for the classifier."""
    match = re.match(r"features\.(\d+)\.", key)
    if match is None:
        return None
    begin, block = 0, int(match[1])
    for name, (end, _) in ENDS.items():
        if block <= end:
            return f"stages.{name}.{block - begin}.{key[match.end() :]}"
        begin = end + 1
    return None
