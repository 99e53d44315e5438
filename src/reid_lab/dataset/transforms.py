"""Augmentation. Every image has its own draw, seeded by a number: workers change nothing.

Crop and flip are slices of uint8 pixels in the worker; erasing and normalising are done on
the whole batch, on the device that trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from reid_lab.types import Count, Fraction

# ImageNet's channel statistics, for pixels in [0, 1]: what torchvision's weights expect
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Box = tuple[int, int, int, int]  # top, left, bottom, right; empty when nothing is erased


@dataclass(frozen=True)
class Transforms:
    """DaRe, section 5: enlarge by 1.125, crop back at random, flip; random erasing; ten crops.

    Images are resized to (height, width) * `enlarge` in one step, then cropped to
    (height, width). Erasing is Zhong et al.'s (AAAI 2020), with their ranges, and puts the
    mean colour. `views` at test: 1, the whole image; 10, the embeddings' average over five
    crops of the enlarged image and their flips.
    """

    height: Count = 256
    width: Count = 128
    enlarge: Annotated[float, Ge(1)] = 1.125  # below 1 the crop would not fit
    flip: Fraction = 0.5
    erase: Fraction = 0.5
    views: Literal[1, 10] = 1

    @property
    def train_size(self) -> tuple[int, int]:
        return round(self.height * self.enlarge), round(self.width * self.enlarge)

    @property
    def test_size(self) -> tuple[int, int]:
        return self.train_size if self.views > 1 else (self.height, self.width)

    def train(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
        """(h, w, 3) at `train_size` -> ((height, width, 3), the box to erase)."""
        top = rng.integers(image.shape[0] - self.height + 1)
        left = rng.integers(image.shape[1] - self.width + 1)
        image = image[top : top + self.height, left : left + self.width]
        if rng.random() < self.flip:
            image = image[:, ::-1]
        box = (0, 0, 0, 0)
        if rng.random() < self.erase:
            box = erasing_box(self.height, self.width, rng)
        return image, box

    def test(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) at `test_size` -> (views, height, width, 3)."""
        if self.views == 1:
            return image[None]
        y, x = image.shape[0] - self.height, image.shape[1] - self.width
        corners = [(0, 0), (0, x), (y, 0), (y, x), (y // 2, x // 2)]
        crops = np.stack([image[t : t + self.height, s : s + self.width] for t, s in corners])
        return np.concatenate([crops, crops[:, :, ::-1]])


def erasing_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """Zhong et al.: area 2 to 40 % of the image, aspect 0.3 to 3.33, anywhere it fits."""
    for _ in range(100):
        area = rng.uniform(0.02, 0.4) * height * width
        aspect = rng.uniform(0.3, 1 / 0.3)
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < h < height and 0 < w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), int(top + h), int(left + w)
    return 0, 0, 0, 0


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (..., 3, H, W) -> float32, zero mean and unit deviation by ImageNet's statistics."""
    mean = torch.tensor(MEAN, device=pixels.device).view(3, 1, 1) * 255
    scale = 1 / (torch.tensor(STD, device=pixels.device).view(3, 1, 1) * 255)
    return (pixels.float() - mean) * scale


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`: float (..., 3, H, W) -> uint8."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Normalised (N, 3, H, W) with each image's box (N, 4) set to the mean colour, zero."""
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    top, left, bottom, right = boxes.unsqueeze(-1).unbind(1)  # (N, 1) each
    inside_rows = (rows >= top) & (rows < bottom)  # (N, H)
    inside_columns = (columns >= left) & (columns < right)  # (N, W)
    hole = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]  # (N, 1, H, W)
    return images.masked_fill(hole, 0.0)
