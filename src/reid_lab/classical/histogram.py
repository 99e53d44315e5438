"""HSV colour histograms of horizontal stripes: a very cheap baseline."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reid_lab.types import Bins

LARGEST = 65_536  # dimensions, at most


def rgb_to_hsv(images: Tensor) -> Tensor:
    """Convert uint8 (N, 3, H, W) RGB to float32 (N, 3, H, W) HSV, each from 0 to 1."""
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
    """Square roots of the HSV histograms of horizontal stripes, concatenated.

    Their Euclidean distance is the Hellinger distance of the histograms.

    Args:
        stripes: number of horizontal stripes of equal height.
        bins: numbers of bins of hue, saturation and value.

    Raises:
        ValueError: more than 65,536 dimensions.
    """

    def __init__(self, stripes: Bins = 6, bins: tuple[Bins, Bins, Bins] = (8, 4, 4)) -> None:
        self.stripes, self.bins = stripes, tuple(bins)
        if (dim := stripes * math.prod(self.bins)) > LARGEST:
            raise ValueError(
                f"stripes={stripes}, bins={list(bins)} make {dim} dimensions: at most {LARGEST}"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features: uint8 (N, 3, H, W) RGB -> float32 (N, stripes * bins)."""
        n, _, height, width = images.shape
        sizes = torch.tensor(self.bins, device=images.device).view(3, 1, 1)
        cells = (rgb_to_hsv(images) * sizes).long().clamp(max=sizes - 1)  # (N, 3, H, W)
        h, s, v = cells.unbind(1)
        colour = (h * self.bins[1] + s) * self.bins[2] + v  # (N, H, W)
        stripe = torch.arange(height, device=images.device) * self.stripes // height
        length = self.bins[0] * self.bins[1] * self.bins[2]
        cell = (stripe[None, :, None] * length + colour).flatten(1)
        counts = torch.zeros(n, self.stripes * length, device=images.device)
        counts.scatter_add_(1, cell, torch.ones_like(cell, dtype=counts.dtype))
        return (counts / (height * width)).sqrt()

    def mul_adds(self, height: int, width: int) -> int:
        """Estimate the Mul-Adds of an image: about 6 per pixel, for HSV and the bin index."""
        return 6 * height * width
