"""JLML-ResNet39 (Li, Zhu and Gong, IJCAI 2017), table 1: the whole image beside its strips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet

from reid_lab.backbone.weights import WeightsError, read_state
from reid_lab.errors import UserError

STEM = 32  # channels of conv1
GLOBAL = (32, 64, 128, 256)  # widths of the bottlenecks, level by level
LOCAL = (16, 32, 64, 128)
UNITS = 3  # bottlenecks a level


class BottleneckV1(resnet.Bottleneck):  # type: ignore[misc]
    """He et al.'s unit with an output twice as wide as its middle; stride in the first 1x1.

    Their Caffe models have the stride there, and only this reproduces the costs of JLML.
    """

    expansion = 2

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        outputs = self.expansion * width
        projection = None
        if stride > 1 or inputs != outputs:
            projection = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        super().__init__(inputs, width, stride, projection)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class Stem(nn.Sequential):
    """Images (N, 3, H, W) -> (N, 32, H/2, W/2): conv1."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM),
            nn.ReLU(inplace=True),
        )


class Levels(nn.Sequential):
    """(N, 32, h, w) -> (N, 2 * widths[-1]): conv2_x to conv5_x, then the average over the map."""

    def __init__(self, widths: Sequence[int]) -> None:
        units: list[nn.Module] = []
        inputs = STEM
        for level, width in enumerate(widths):
            outputs = BottleneckV1.expansion * width
            units.append(BottleneckV1(inputs, width, stride=1 if level == 0 else 2))
            units += [BottleneckV1(outputs, width) for _ in range(UNITS - 1)]
            inputs = outputs
        super().__init__(*units, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class GlobalBranch(nn.Module):
    """conv1's maps (N, 32, h, w) -> (N, dim), from the whole image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.levels = Levels(GLOBAL)
        self.fc = nn.Linear(2 * GLOBAL[-1], dim)

    def forward(self, maps: Tensor) -> Tensor:
        features: Tensor = self.fc(self.levels(self.pool(maps)))
        return features


class LocalBranch(nn.Module):
    """conv1's maps (N, 32, h, w) -> (N, dim), from `parts` strips, each with its own stream.

    A strip keeps its height in the 2x2 pooling, as the sizes in table 1 (28x112 -> 28x56) imply:
    the stride is (1, 2), with a row of zeros below, which is no larger than any output of ReLU.
    """

    def __init__(self, dim: int, parts: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(Levels(LOCAL) for _ in range(parts))
        self.fc = nn.Linear(parts * 2 * LOCAL[-1], dim)

    def forward(self, maps: Tensor) -> Tensor:
        parts, rows = len(self.streams), maps.shape[2]
        if rows < parts:
            raise UserError(
                f"model.parts={parts}: conv1 leaves {rows} rows to cut into strips; give images "
                f"of at least {2 * parts - 1} rows (dataset.transforms.height), or fewer parts"
            )
        strips = maps.tensor_split(parts, dim=2)
        pooled = [F.max_pool2d(F.pad(strip, (0, 0, 0, 1)), 2, (1, 2)) for strip in strips]
        streams = zip(self.streams, pooled, strict=True)
        features: Tensor = self.fc(torch.cat([stream(strip) for stream, strip in streams], 1))
        return features


class JLMLResNet39(nn.Module):
    """conv1, shared or one per branch, with a global and a local branch.

    Args:
        parts: strips, the paper's m.
        dim: dimension of the joint feature; each branch has half.
        shared_stem: one conv1 for both (table 11).

    Raises:
        ValueError: `dim` is odd.
    """

    def __init__(self, parts: int = 4, dim: int = 1024, shared_stem: bool = True) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim}: give an even number, of which each branch has half")
        self.stem = Stem()
        self.local_stem = None if shared_stem else Stem()
        self.global_branch = GlobalBranch(dim // 2)
        self.local_branch = LocalBranch(dim // 2, parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al., as torchvision's ResNets
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def load_network(network: nn.Module, weights: Path | str, prefix: str = "network.") -> None:
    """Load the part `prefix` of a checkpoint of JLML or of its state dict.

    Raises:
        WeightsError: no such file, no state dict, or one of another network; differences are named.
    """
    path = Path(weights).expanduser()
    allowed = "allowed are null (scratch), or the path of a checkpoint of model=jlml"
    state = read_state(path, "model.weights", allowed)
    given = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    own = network.state_dict()
    odd = {
        "missing": [key for key in own if key not in given],
        "unexpected": [key for key in given if key not in own],
        "of another size": [k for k in own if k in given and own[k].shape != given[k].shape],
    }
    found = [f"{len(keys)} {what}, the first is {keys[0]}" for what, keys in odd.items() if keys]
    if found:
        raise WeightsError(
            f"model.weights={path}: of another network ({'; '.join(found)}). Give a checkpoint of "
            "model=jlml with the same parts, dim and shared_stem, or null (scratch)"
        )
    network.load_state_dict(given)
