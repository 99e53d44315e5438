"""torchvision's AlexNet, VGG-16 and GoogLeNet, with which JLML compares its costs (table 13)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import Published, load_weights
from reid_lab.dataset.transforms import MEAN, STD

Name = Literal["alexnet", "vgg16", "googlenet"]
# where a stage's last ReLU ends in torchvision's `features`; a pool begins the next stage
ENDS = {"alexnet": (2, 5, 12), "vgg16": (4, 9, 16, 23, 30)}
CHANNELS = {
    "alexnet": (64, 192, 256),
    "vgg16": (64, 128, 256, 512, 512),
    "googlenet": (192, 480, 832, 1024),
}
PARTS = {  # of GoogLeNet
    "stage1": ("conv1", "maxpool1", "conv2", "conv3"),
    "stage2": ("maxpool2", "inception3a", "inception3b"),
    "stage3": ("maxpool3", *(f"inception4{letter}" for letter in "abcde")),
    "stage4": ("maxpool4", "inception5a", "inception5b"),
}


class Classic(Backbone):
    """The convolutions of a network from 2012 to 2015; stages end where maps are halved.

    Args:
        name: network; alexnet has 3 stages, vgg16 5, googlenet 4.
        weights: see `ResNet`.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, name: Name = "alexnet", weights: str | Path | None = None) -> None:
        build, imagenet = BUILT[name]
        network = build()
        stages = googlenet_stages(network) if name == "googlenet" else cut(network, ENDS[name])
        super().__init__(stages, CHANNELS[name])
        load_weights(self, weights, Published(network, imagenet))


class ToSigned(nn.Module):
    """Images normalised by ImageNet's mean and deviation -> pixels in [-1, 1], for GoogLeNet."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        self.register_buffer("scale", 2 * std, persistent=False)
        self.register_buffer("shift", 2 * mean - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def cut(network: nn.Module, ends: tuple[int, ...]) -> dict[str, nn.Module]:
    """torchvision's `features`, without the final pool."""
    features: nn.Sequential = network.features  # type: ignore[assignment]
    begins = (0, *ends[:-1])
    spans = enumerate(zip(begins, ends, strict=True), 1)
    return {f"stage{i}": features[begin:end] for i, (begin, end) in spans}


def googlenet_stages(network: nn.Module) -> dict[str, nn.Module]:
    stages: dict[str, nn.Module] = {
        stage: nn.Sequential(*(network.get_submodule(part) for part in parts))
        for stage, parts in PARTS.items()
    }
    stages["stage1"] = nn.Sequential(ToSigned(), stages["stage1"])
    return stages


def googlenet() -> nn.Module:
    # the published file holds the auxiliary classifiers; own initial values take a minute
    network: nn.Module = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    return network


BUILT: dict[Name, tuple[Callable[[], nn.Module], models.WeightsEnum]] = {
    "alexnet": (models.alexnet, models.AlexNet_Weights.IMAGENET1K_V1),
    "vgg16": (models.vgg16, models.VGG16_Weights.IMAGENET1K_V1),
    "googlenet": (googlenet, models.GoogLeNet_Weights.IMAGENET1K_V1),
}
