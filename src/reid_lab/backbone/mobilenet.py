"""MobileNet v1 (Howard et al. 2017) with its width multiplier."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import load_weights
from reid_lab.types import Multiplier

# (channels, stride) of the depthwise separable units, by the resolution that they put out
UNITS = {
    "stage1": ((64, 1),),
    "stage2": ((128, 2), (128, 1)),
    "stage3": ((256, 2), (256, 1)),
    "stage4": ((512, 2), *((512, 1),) * 5),
    "stage5": ((1024, 2), (1024, 1)),
}


class MobileNet(Backbone):
    """Five stages at 1/2 to 1/32, 64 to 1024 channels times `alpha`.

    Args:
        alpha: width multiplier; the distillation paper takes 1, 0.75, 0.5 and 0.25.
        weights: the path of a checkpoint of ours with this backbone, or None for scratch;
            torchvision has no such network.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, alpha: Multiplier = 1.0, weights: str | Path | None = None) -> None:
        width = round(32 * alpha)
        stages: dict[str, nn.Module] = {}
        layers = [*_unit(3, width, 3, stride=2)]
        channels = []
        for name, units in UNITS.items():
            for wanted, stride in units:
                outputs = round(wanted * alpha)
                layers += _unit(width, width, 3, stride, groups=width)
                layers += _unit(width, outputs, 1)
                width = outputs
            stages[name], layers = nn.Sequential(*layers), []
            channels.append(width)
        super().__init__(stages, tuple(channels))
        load_weights(self, weights)


def _unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
