"""A four-stage residual network small enough to train on a CPU in minutes."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import load_weights
from reid_lab.types import Units


class SmallResNet(Backbone):
    """One basic residual block per stage, with `width` to 8 * `width` channels, at 1/4 to 1/32.

    ResNet-18 at half its depth; there are no ImageNet weights for it.

    Args:
        width: channels of the first stage.
        weights: the path of a checkpoint of ours with this backbone, or None for scratch.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, width: Units = 24, weights: str | Path | None = None) -> None:
        channels = tuple(width * 2**s for s in range(4))
        stem = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        stages: dict[str, nn.Module] = {"stage1": nn.Sequential(stem, BasicBlock(width, width))}
        for s in range(1, 4):
            stages[f"stage{s + 1}"] = _halving_block(channels[s - 1], channels[s])
        super().__init__(stages, channels)
        load_weights(self, weights)


class _Shortcut(nn.Conv2d):
    """A 1x1 convolution of every second row and column.

    For fewer than 8 channels, oneDNN's AVX2 backward pass with a stride writes out of bounds
    (uxlfoundation/oneDNN#6035): these are sliced instead, with the same result.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels < 8:
            return F.conv2d(x[..., ::2, ::2], self.weight)
        return super().forward(x)


def _halving_block(inputs: int, outputs: int) -> BasicBlock:
    shortcut = nn.Sequential(_Shortcut(inputs, outputs), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride=2, downsample=shortcut)
