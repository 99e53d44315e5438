"""torchvision's DenseNet-201 (Huang et al., CVPR 2017), cut behind its dense blocks."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn
from torchvision import models

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import Published, load_weights


class DenseNet201(Backbone):
    """Stage s is dense block s with the batch norm and ReLU that follow it.

    A transition (norm, ReLU, 1x1 convolution, pool) is cut after its ReLU, so that maps are
    normalised at no extra cost.

    Args:
        weights: see `ResNet`.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        network = models.densenet201(weights=None)
        f = network.features
        stem = nn.Sequential(f.conv0, f.norm0, f.relu0, f.pool0)
        stages: dict[str, nn.Module] = {}
        down: nn.Module = stem
        for block, transition in (
            (f.denseblock1, f.transition1),
            (f.denseblock2, f.transition2),
            (f.denseblock3, f.transition3),
        ):
            out = nn.Sequential(transition.norm, transition.relu)
            stages[f"stage{len(stages) + 1}"] = nn.Sequential(down, block, out)
            down = nn.Sequential(transition.conv, transition.pool)
        stages["stage4"] = nn.Sequential(
            down, f.denseblock4, nn.Sequential(f.norm5, nn.ReLU(inplace=True))
        )
        super().__init__(stages, (256, 512, 1792, 1920))
        imagenet = models.DenseNet201_Weights.IMAGENET1K_V1
        load_weights(self, weights, Published(network, imagenet, without_dot))


def without_dot(key: str) -> str:
    """Rename keys of the published file, from an older torchvision: `norm.1` is now `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key)
