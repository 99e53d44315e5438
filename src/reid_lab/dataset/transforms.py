"""Image transforms of training and test; each training image's augmentation has its own seed.

Crop, flip, patch and colour act on uint8 pixels in the loader process (with `dataset.cache=device`
on the training device); erasing and normalisation on the whole batch, on the training device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from reid_lab.dataset.augment import (
    EMPTY,
    Augmentation,
    Patch,
    draw_corner,
    draw_erased_area,
    draw_patch,
)
from reid_lab.dataset.colour import Adjustment, Step, draw_steps
from reid_lab.types import RANKING, Fraction, Jitter, Side

# ImageNet's channel statistics for pixels in [0, 1], as torchvision's weights expect
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transforms:
    """Augmentation of training images and views of test images. Defaults: DaRe, section 5.

    Args:
        height, width: size of the network's input in pixels.
        enlarge: training images are resized to (height, width) * `enlarge`, then randomly cropped
            to (height, width).
        flip: probability of a horizontal flip.
        erase: probability of random erasing (Zhong et al., AAAI 2020, with their ranges); the area
            is filled with the mean colour.
        test_crop: how a test image is cropped. `centre`: the centre of the enlarged image, at the
            scale of the training images (see Touvron et al., NeurIPS 2019, on the effect of
            scale); `whole`: all of it. The Mul-Adds are the same.
        test_views: views per test image, whose embeddings are averaged. 1: `test_crop`; 2: it and
            its flip; 10: five crops of the enlarged image and their flips, whatever `test_crop`.
        patch: probability of pasting a patch of another training image (OSNet).
        brightness, contrast, saturation: colour jitter, a random factor of 1 ± this, as in
            torchvision's `ColorJitter`.
        hue: colour jitter, a random shift of up to this share of the hue circle.
    """

    height: Side = 256
    width: Side = 128
    enlarge: Annotated[float, Ge(1), Le(4)] = 1.125  # below 1 the crop would not fit
    flip: Fraction = 0.5
    erase: Fraction = 0.5
    test_crop: Annotated[Literal["centre", "whole"], RANKING] = "centre"
    test_views: Annotated[Literal[1, 2, 10], RANKING] = 1
    patch: Fraction = 0
    brightness: Jitter = 0
    contrast: Jitter = 0
    saturation: Jitter = 0
    hue: Annotated[float, Ge(0), Le(0.5)] = 0

    renamed: ClassVar[Mapping[str, str]] = {"view": "test_crop", "views": "test_views"}

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.height, self.width

    @property
    def train_size(self) -> tuple[int, int]:
        """(height, width) of training images before the crop."""
        return enlarged(self.size, self.enlarge)

    @property
    def test_size(self) -> tuple[int, int]:
        """(height, width) of test images before the views are taken."""
        whole = self.test_views < 10 and self.test_crop == "whole"
        return self.size if whole else self.train_size

    @property
    def jitters(self) -> bool:
        """Whether any colour adjustment is on."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue)

    @property
    def _jitter(self) -> dict[Adjustment, float]:
        return {
            "brightness": self.brightness,
            "contrast": self.contrast,
            "saturation": self.saturation,
            "hue": self.hue,
        }

    def draw(self, rng: np.random.Generator, images: int) -> Augmentation:
        """Draw the augmentation of one image of `train_size`, in a training set of `images`."""
        top, left = draw_corner(*self.train_size, self.size, rng)
        flip = bool(rng.random() < self.flip)
        erased = draw_erased_area(*self.size, rng) if rng.random() < self.erase else EMPTY
        patch: Patch | None = None
        colour: tuple[Step, ...] = ()
        # draw nothing for what is off, so that switching it on does not change the other draws
        if self.patch and rng.random() < self.patch:
            patch = draw_patch(images, self.train_size, self.size, rng)
        if self.jitters:
            colour = draw_steps(self._jitter, rng)
        return Augmentation(top, left, flip, erased, patch, colour)

    def test(self, image: np.ndarray) -> np.ndarray:
        """Cut a test image into views: (3, h, w) of `test_size` -> (views, 3, height, width)."""
        corners = self.corners(*image.shape[1:])
        crops = np.stack([image[:, t : t + self.height, s : s + self.width] for t, s in corners])
        return crops if self.test_views == 1 else np.concatenate([crops, crops[..., ::-1]])

    def corners(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (top, left) of the crops of a test image of this size: the centre, or five."""
        centre = centre_of((height, width), self.size)
        if self.test_views < 10:
            return [centre]
        y, x = height - self.height, width - self.width
        return [(0, 0), (0, x), (y, 0), (y, x), centre]


def enlarged(size: tuple[int, int], by: float) -> tuple[int, int]:
    """(height, width) times a factor."""
    return round(size[0] * by), round(size[1] * by)


def centre_of(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """(top, left) of a crop (height, width) in the centre of an image of `size`."""
    return (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2


def normalise(pixels: Tensor) -> Tensor:
    """Normalise by ImageNet's mean and deviation: uint8 (..., 3, H, W) -> float32."""
    mean, scale = _statistics(pixels.device)
    if pixels.device.type != "cpu":
        return pixels.float().sub_(mean).mul_(scale)
    normalised = torch.empty(pixels.shape)
    one_by_one = normalised.view(-1, *pixels.shape[-3:]).numpy()
    # image by image, which stays in the CPU's cache; in NumPy, because torch's threads would wait
    # for each other where loader processes keep the cores busy
    for image, raw in zip(one_by_one, pixels.reshape(one_by_one.shape).numpy(), strict=True):
        image[...] = raw
        image -= mean.numpy()
        image *= scale.numpy()
    return normalised


@lru_cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / deviation of uint8 pixels; cached, as a copy to a GPU synchronises."""
    with torch.inference_mode(False):  # training may use the cached tensors after inference
        mean = torch.tensor(MEAN).view(3, 1, 1) * 255
        scale = 1 / (torch.tensor(STD).view(3, 1, 1) * 255)
        return mean.to(device), scale.to(device)


def denormalise(images: Tensor) -> Tensor:
    """Invert `normalise`: float (..., 3, H, W) -> uint8."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def erase(images: Tensor, areas: Tensor) -> Tensor:
    """Set each image's area to zero, the mean colour, in place.

    Args:
        images: (N, 3, H, W), normalised.
        areas: (N, 4) top, left, bottom, right in pixels.
    """
    if images.device.type != "cpu":
        return images.masked_fill_(area_masks(areas, *images.shape[-2:]), 0.0)
    # slices touch only what is erased; on a GPU, reading the areas would synchronise
    for image, (top, left, bottom, right) in zip(images.numpy(), areas.tolist(), strict=True):
        image[:, top:bottom, left:right] = 0
    return images


def area_masks(areas: Tensor, height: int, width: int) -> Tensor:
    """Return masks of areas: (N, 4) -> (N, 1, H, W) bool, true inside."""
    rows = torch.arange(height, device=areas.device)
    columns = torch.arange(width, device=areas.device)
    top, left, bottom, right = areas.unsqueeze(-1).unbind(1)  # (N, 1) each
    inside_rows = (rows >= top) & (rows < bottom)  # (N, H)
    inside_columns = (columns >= left) & (columns < right)  # (N, W)
    return inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
