"""MobileNet v1 (Howard et al. 2017) with its width multiplier, plain, as timm's or as TF-slim's."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor, nn

from reid_lab.backbone.layers import pad_same
from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.timm_networks import Renormalise
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
LAYERS = 3  # layers of a unit: convolution, batch norm, activation
HALF = (0.5, 0.5, 0.5)  # mean and deviation of images between -1 and 1


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, see `pad_same`.

    At stride 2, a 3x3 convolution pads even sizes on the right and below only. At stride 1, the
    padding is symmetric.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size, self.stride))


class Variant(NamedTuple):
    """Differences between implementations of the network."""

    activation: type[nn.Module]
    eps: float  # of batch norm
    same: bool  # SAME padding where the stride is 2
    centred: bool  # takes images between -1 and 1


VARIANTS = {
    "plain": Variant(nn.ReLU, 1e-5, same=False, centred=False),
    "timm": Variant(nn.ReLU6, 1e-5, same=False, centred=True),
    "tf_slim": Variant(nn.ReLU6, 1e-3, same=True, centred=True),
}


class MobileNet(Backbone):
    """Five stages at 1/2 to 1/32, 64 to 1024 channels times `alpha`.

    Args:
        alpha: width multiplier; the distillation paper uses 1, 0.75, 0.5 and 0.25.
        weights: the path of a checkpoint of ours with this backbone, or None for scratch;
            torchvision has no such network. `reid-lab weights convert` makes such a checkpoint
            of ImageNet weights of TF-slim, transformers and timm.
        variant: the implementation whose weights fit. `plain`: ReLU, symmetric padding, eps 1e-5 of
            batch norm, images normalised by ImageNet's mean and deviation. `timm`: ReLU6, images
            between -1 and 1. `tf_slim`: as `timm`, with TensorFlow's SAME padding and eps 1e-3. All
            take the data set's normalisation and convert it in the network.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        alpha: Multiplier = 1.0,
        weights: str | Path | None = None,
        variant: Literal["plain", "timm", "tf_slim"] = "plain",
    ) -> None:
        kind = VARIANTS[variant]
        width = round(32 * alpha)
        stages: dict[str, nn.Module] = {}
        layers = [*_unit(kind, 3, width, 3, stride=2)]
        channels = []
        for name, units in UNITS.items():
            for wanted, stride in units:
                outputs = round(wanted * alpha)
                layers += _unit(kind, width, width, 3, stride, groups=width)
                layers += _unit(kind, width, outputs, 1)
                width = outputs
            stages[name], layers = nn.Sequential(*layers), []
            channels.append(width)
        if kind.centred:  # by name: the layers keep their numbers, and weights their keys
            first = {"renormalise": Renormalise(HALF, HALF), **stages["stage1"]._modules}
            stages["stage1"] = nn.Sequential(OrderedDict(first))  # type: ignore[arg-type]
        super().__init__(stages, tuple(channels))
        load_weights(self, weights)


def _unit(
    kind: Variant, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    same = kind.same and stride > 1
    padding = 0 if same else kernel // 2
    layer = SameConv2d if same else nn.Conv2d
    conv = layer(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, kind.eps), kind.activation(inplace=True)]


def layer_keys() -> list[tuple[str, str]]:
    """The keys of each convolution and its batch norm, 27 pairs in the order in which they run."""
    found = []
    for name, units in UNITS.items():
        count = 2 * len(units) + (name == "stage1")
        starts = range(0, LAYERS * count, LAYERS)
        found += [(f"stages.{name}.{i}", f"stages.{name}.{i + 1}") for i in starts]
    return found
