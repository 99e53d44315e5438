"""A colour histogram by stripes: what re-identification costs next to nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reid_lab.types import Bins

LARGEST = 65_536  # dimensions of a histogram


def rgb_to_hsv(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) RGB -> float (N, 3, H, W) HSV, each 0 to 1."""
    rgb = images.float() / 255
    value, which = rgb.max(1)
    chroma = value - rgb.amin(1)
    r, g, b = rgb.unbind(1)
    safe = chroma.clamp(min=1e-6)
    hue = torch.stack([(g - b) / safe % 6, (b - r) / safe + 2, (r - g) / safe + 4], 1)
    hue = hue.gather(1, which[:, None])[:, 0] / 6 * (chroma > 0)
    saturation = chroma / value.clamp(min=1e-6)
    return torch.stack([hue, saturation, value], 1)


class HsvHistogram:
    """Images -> an HSV histogram a horizontal stripe, square roots, concatenated.

    The Euclidean distance of square roots is the Hellinger distance of the histograms.

    Args:
        stripes: horizontal stripes of equal height.
        bins: of hue, saturation and value.
    """

    def __init__(self, stripes: Bins = 6, bins: tuple[Bins, Bins, Bins] = (8, 4, 4)) -> None:
        self.stripes, self.bins = stripes, tuple(bins)
        if (dim := stripes * math.prod(self.bins)) > LARGEST:
            raise ValueError(
                f"stripes={stripes}, bins={list(bins)} make {dim} dimensions: at most {LARGEST}"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> (N, stripes * bins)."""
        n, _, height, width = images.shape
        sizes = torch.tensor(self.bins, device=images.device).view(3, 1, 1)
        cells = (rgb_to_hsv(images) * sizes).long().clamp(max=sizes - 1)  # (N, 3, H, W)
        h, s, v = cells.unbind(1)
        colour = (h * self.bins[1] + s) * self.bins[2] + v  # (N, H, W)
        stripe = torch.arange(height, device=images.device) * self.stripes // height
        length = self.bins[0] * self.bins[1] * self.bins[2]
        place = (stripe[None, :, None] * length + colour).flatten(1)
        counts = torch.zeros(n, self.stripes * length, device=images.device)
        counts.scatter_add_(1, place, torch.ones_like(place, dtype=counts.dtype))
        return (counts / (height * width)).sqrt()

    def mul_adds(self, height: int, width: int) -> int:
        """An estimate: about 6 multiplications a pixel, for HSV and the cell's number."""
        return 6 * height * width
