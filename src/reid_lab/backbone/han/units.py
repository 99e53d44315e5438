"""The building blocks of HAN: depthwise separable, Inception and residual units (table 12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Size = Literal["small", "medium", "large"]
Unit = Literal["depthwise", "inception", "residual"]
Resampling = Literal["once", "torchreid"]
LocalNorm = Literal["pooled", "regions"]
STRIDES: dict[Size, tuple[int, int, int]] = {  # table 1
    "small": (2, 1, 1),
    "medium": (1, 2, 1),
    "large": (1, 1, 2),
}


class ConvNorm(nn.Module):
    """Convolution, batch norm and, if `relu`, ReLU; (N, C, H, W) -> (N, D, H/s, W/s)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.relu: nn.Module = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(self.conv(x)) if self.training else self.folded(x)
        result: Tensor = self.relu(normed)
        return result

    def folded(self, x: Tensor) -> Tensor:
        """`norm(conv(x))` in evaluation, in one pass over the maps instead of two."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.conv.weight * scale.view(-1, 1, 1, 1)
        result: Tensor = self.conv._conv_forward(x, weight, norm.bias - norm.running_mean * scale)
        return result


class Depthwise(nn.Sequential):
    """1x1 convolution to `outputs`, then 3x3 depthwise (figure 4c)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            ConvNorm(inputs, outputs), ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        )


class Bottleneck(nn.Module):
    """Residual bottleneck (He et al. 2016), half as wide inside, with a projection."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        mid = outputs // 2
        self.residual = nn.Sequential(
            ConvNorm(inputs, mid),
            ConvNorm(mid, mid, 3, stride),
            ConvNorm(mid, outputs, relu=False),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class Streams(nn.Module):
    """Modules side by side on one input, their channels concatenated."""

    def __init__(self, streams: Sequence[nn.Module]) -> None:
        super().__init__()
        self.streams = nn.ModuleList(streams)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([stream(x) for stream in self.streams], 1)


class InceptionA(Streams):
    """Three streams of 1x1 and 3x3, and a pooled one; a quarter of the channels each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        mid = outputs // 4
        threes = [nn.Sequential(ConvNorm(inputs, mid), ConvNorm(mid, mid, 3)) for _ in range(3)]
        pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), ConvNorm(inputs, mid))
        super().__init__([*threes, pooled])


class InceptionB(Streams):
    """Stride 2: 1x1 and 3x3, 1x1 and twice 3x3, and a pooled stream with half the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        mid = outputs // 4
        super().__init__(
            [
                nn.Sequential(ConvNorm(inputs, mid), ConvNorm(mid, mid, 3, 2)),
                nn.Sequential(
                    ConvNorm(inputs, mid), ConvNorm(mid, mid, 3), ConvNorm(mid, mid, 3, 2)
                ),
                nn.Sequential(nn.MaxPool2d(3, 2, 1), ConvNorm(inputs, 2 * mid)),
            ]
        )


def global_block(unit: Unit, size: Size, inputs: int, outputs: int) -> nn.Sequential:
    """A level of the global branch, (N, inputs, H, W) -> (N, outputs, H/2, W/2).

    Three depthwise units with the stride by `size`, or two other units with the stride in the
    second, which gives the costs of table 12.
    """
    if unit == "inception":
        return nn.Sequential(InceptionA(inputs, outputs), InceptionB(outputs, outputs))
    if unit == "residual":
        return nn.Sequential(Bottleneck(inputs, outputs), Bottleneck(outputs, outputs, 2))
    widths = (inputs, outputs, outputs)
    strided = zip(widths, STRIDES[size], strict=True)
    return nn.Sequential(*(Depthwise(width, outputs, stride) for width, stride in strided))


def local_unit(unit: Unit, inputs: int, outputs: int) -> nn.Module:
    """A level of the local streams, one unit of stride 2 (figure 4a)."""
    if unit == "inception":
        return InceptionB(inputs, outputs)
    return (Bottleneck if unit == "residual" else Depthwise)(inputs, outputs, 2)
