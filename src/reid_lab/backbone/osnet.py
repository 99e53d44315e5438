"""OSNet (Zhou et al., ICCV 2019), with IBN and AIN (TPAMI 2021): features at several scales."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import load_weights
from reid_lab.types import Multiplier

CHANNELS = (64, 256, 384, 512)  # channels of the stem and of stages 1 to 3
STREAMS = 4  # streams of a block: 1 to 4 light convolutions, receptive fields of 3 to 9
MIDDLE = 4  # a block's output has this many times the channels of its streams
GATE = 16  # a gate's hidden layer has this share of its channels
Norm = Literal["batch", "ibn", "ain"]
# where instance norm is inside a block's residual branch, by stage and block (AIN's search result)
AIN = ((True, True), (False, True), (True, False))


class OmniScaleBlock(nn.Module):
    """Four streams of light convolutions, added up by one gate, in a residual bottleneck.

    Args:
        inputs, outputs: channels.
        inside: instance norm instead of batch norm at the end of the branch (AIN).
        behind: instance norm behind the sum with the shortcut (IBN).
    """

    def __init__(
        self, inputs: int, outputs: int, inside: bool = False, behind: bool = False
    ) -> None:
        super().__init__()
        middle = outputs // MIDDLE
        hidden = max(1, middle // GATE)
        self.squeeze = nn.Sequential(*_conv(inputs, middle, 1), nn.ReLU(inplace=True))
        self.streams = nn.ModuleList(
            nn.Sequential(*(_light(middle) for _ in range(depth)))
            for depth in range(1, STREAMS + 1)
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(middle, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, middle, 1),
            nn.Sigmoid(),
        )
        self.expand = nn.Sequential(*_conv(middle, outputs, 1, instance=inside))
        self.shortcut = nn.Sequential(*_conv(inputs, outputs, 1)) if inputs != outputs else None
        self.norm = nn.InstanceNorm2d(outputs, affine=True) if behind else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, outputs, h, w)."""
        squeezed = self.squeeze(x)
        first, *others = (stream(squeezed) for stream in self.streams)
        total = self.gate(first) * first
        for scale in others:
            total = total + self.gate(scale) * scale
        out = self.expand(total) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(out if self.norm is None else self.norm(out))


class OSNet(Backbone):
    """Four stages at 1/4, 1/8, 1/16 and 1/16 with 256, 384, 512 and 512 channels times `width`.

    Stages 1 to 3 end behind conv2, conv3 and conv4; the transition (1x1 convolution, pool) behind a
    stage belongs to the next one, so that an exit does not pay for it. Stage 4 is conv5. The 512-d
    layer behind the average pool is part of the method: `model=classifier model.fc=512`.

    Args:
        width: multiplier of channels; there are published networks of 1, 0.75, 0.5 and 0.25.
        norm: `ibn` or `ain` put instance norm into the stem and into some blocks.
        weights: None for scratch, or the path of torchreid's state dict or of a checkpoint of ours
            with this backbone.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self, width: Multiplier = 1.0, norm: Norm = "batch", weights: str | Path | None = None
    ) -> None:
        stem, *channels = (max(1, round(c * width / 16)) * 16 for c in CHANNELS)
        start = [*_conv(3, stem, 7, stride=2, instance=norm != "batch"), nn.ReLU(inplace=True)]
        before = nn.Sequential(*start, nn.MaxPool2d(3, stride=2, padding=1))
        stages: dict[str, nn.Module] = {}
        inputs = stem
        for s, outputs in enumerate(channels):
            inside = AIN[s] if norm == "ain" else (False, False)
            behind = norm == "ibn" and s == 0
            blocks = nn.Sequential(
                OmniScaleBlock(inputs, outputs, inside[0], behind),
                OmniScaleBlock(outputs, outputs, inside[1], behind),
            )
            parts = {"stem" if s == 0 else "transition": before, "blocks": blocks}
            stages[f"stage{s + 1}"] = nn.Sequential(OrderedDict(parts))
            before = nn.Sequential(
                *_conv(outputs, outputs, 1), nn.ReLU(inplace=True), nn.AvgPool2d(2)
            )
            inputs = outputs
        stages["stage4"] = nn.Sequential(*_conv(inputs, inputs, 1), nn.ReLU(inplace=True))
        super().__init__(stages, (*channels, inputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        load_weights(self, weights, torchreid=partial(from_torchreid, norm=norm))


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, instance: bool = False
) -> list[nn.Module]:
    norm = nn.InstanceNorm2d(outputs, affine=True) if instance else nn.BatchNorm2d(outputs)
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), norm]


def _light(channels: int) -> nn.Sequential:
    """A 1x1 and a depthwise 3x3 convolution, instead of a 3x3 one."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


# torchreid's name of a part -> ours, tried in this order
TORCHREID: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^conv1\.", r"stages.stage1.stem."),
    (r"^conv([23])\.2\.0\.", lambda m: f"stages.stage{m[1]}.transition."),
    (r"^pool([23])\.0\.", lambda m: f"stages.stage{m[1]}.transition."),  # AIN
    (r"^conv([234])\.([01])\.", lambda m: f"stages.stage{int(m[1]) - 1}.blocks.{m[2]}."),
    (r"^conv5\.", r"stages.stage4."),
    (r"\.conv2a\.", r".streams.0.0."),
    (r"\.conv2([bcd])\.", lambda m: f".streams.{'abcd'.index(m[1])}."),
    (r"\.conv2\.(\d)\.layers\.", r".streams.\1."),  # AIN
    (r"(streams\.\d\.\d)\.conv1\.", r"\1.0."),
    (r"(streams\.\d\.\d)\.conv2\.", r"\1.1."),
    (r"(streams\.\d\.\d)\.bn\.", r"\1.2."),
    (r"\.gate\.fc1\.", r".gate.1."),
    (r"\.gate\.fc2\.", r".gate.3."),
    (r"(blocks\.\d)\.conv1\.", r"\1.squeeze."),
    (r"(blocks\.\d)\.conv3\.", r"\1.expand."),
    (r"\.downsample\.", r".shortcut."),
    (r"\.conv\.", r".0."),
    (r"\.bn\.", r".1."),
]


def from_torchreid(key: str, norm: Norm = "batch") -> str:
    """Our name of a parameter of torchreid's OSNet; heads (`fc`, `classifier`) keep theirs."""
    for pattern, ours in TORCHREID:
        key = re.sub(pattern, ours, key)
    return key.replace(".IN.", ".expand.1." if norm == "ain" else ".norm.")
