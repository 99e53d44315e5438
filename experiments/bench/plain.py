"""The usual loader: PIL and torchvision's transforms, one image at a time."""

from __future__ import annotations

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from reid_lab.dataset import Split
from reid_lab.dataset.transforms import MEAN, STD


class PlainImages(Dataset[tuple[torch.Tensor, int]]):
    """Item (index, draw) -> (image, pid). `draw` is unused: torchvision draws its own numbers."""

    def __init__(self, split: Split, height: int, width: int) -> None:
        self.split = split
        enlarged = (round(height * 1.125), round(width * 1.125))
        self.transform = v2.Compose(
            [
                v2.Resize(enlarged, antialias=True),
                v2.RandomCrop((height, width)),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
                v2.RandomErasing(0.5, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
            ]
        )

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, int]:
        index, _ = item
        with Image.open(self.split.path(index)) as image:
            return self.transform(image.convert("RGB")), int(self.split.pids[index])
