"""The measured networks: one of a checkpoint, or two sizes of DaRe with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reid_lab.backbone import MobileNetV2, ResNet, SmallResNet
from reid_lab.checkpoint import load_model, read_checkpoint
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe, ReidModule


@dataclass(frozen=True)
class BenchNetwork:
    """A `model` in eval mode, channels last, for images of `size` (height, width)."""

    name: str
    model: ReidModule
    size: tuple[int, int]

    def images(self, count: int) -> Tensor:
        """(N, 3, H, W) noise."""
        noise = torch.randn(count, 3, *self.size, generator=torch.Generator().manual_seed(0))
        return noise.contiguous(memory_format=torch.channels_last)


def networks(checkpoint: Path | None) -> list[BenchNetwork]:
    if checkpoint is not None:
        height, width = read_checkpoint(checkpoint)["hyper_parameters"].get("image", (128, 64))
        return [_of(str(checkpoint), load_model(checkpoint), (int(height), int(width)))]
    torch.manual_seed(0)
    loss = BatchHardTriplet()
    return [
        _of("DaRe(small), 128x64", DaRe(SmallResNet(), loss, hidden=256), (128, 64)),
        _of("DaRe(MobileNetV2), 256x128", DaRe(MobileNetV2(), loss), (256, 128)),
        _of("DaRe(R50), 256x128", DaRe(ResNet(50), loss), (256, 128)),
    ]


def _of(name: str, model: ReidModule, size: tuple[int, int]) -> BenchNetwork:
    return BenchNetwork(name, model.eval().to(memory_format=torch.channels_last), size)
