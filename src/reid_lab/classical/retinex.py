"""Multi-scale Retinex: colours independent of the illumination (Jobson et al. 1997).

LOMO's section 3.1 names the scales and a contrast stretch, but no formula. Readings:

- `release`: as in the authors' compiled program, with colour restoration; the result is never
  darker than the image. The width of its Gaussians beyond 3 sigma and its borders are our choice.
- `deviations`: of log I - log(Gaussian * I), mean -+ 2 standard deviations are stretched.
- `none`: the image as it is.

The Gaussian blur is done by matrix products along height and width. The rows of a matrix hold the
Gaussian; weights beyond the border are added to the border's pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Reading = Literal["release", "deviations", "none"]
READINGS: tuple[Reading, ...] = ("release", "deviations", "none")
SIGMAS = (5.0, 20.0)  # LOMO, section 3.1
REACH = 2.0  # `deviations`: standard deviations on either side of the mean that are kept
OFFSET = 10.0  # `release`: added to the image, subtracted from the stretched result
PERCENTILES = (0.025, 0.975)  # `release`: become 0 and 255
# logarithms, quotients and scalings of a pixel's three colours
POINTWISE_MUL_ADDS: dict[Reading, int] = {"release": 27, "deviations": 12, "none": 0}


@lru_cache
def blur_matrix(size: int, sigma: float) -> Tensor:
    """Return the blur matrix (size, size) float32; row i has the weights of blurred pixel i."""
    radius = 3 * round(sigma)
    steps = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-(steps.double() ** 2) / (2 * sigma**2))
    source = (torch.arange(size)[:, None] + steps).clamp(0, size - 1)  # (size, 2 radius + 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, source, (kernel / kernel.sum()).expand(size, -1))
    return matrix.float()


def retinex(images: Tensor, reading: Reading = "deviations") -> Tensor:
    """Apply multi-scale Retinex: uint8 (N, 3, H, W) -> uint8 (N, 3, H, W).

    Raises:
        ValueError: the reading is unknown.
    """
    if reading == "release":
        return _release(images)
    if reading == "deviations":
        return _deviations(images)
    if reading == "none":
        return images
    raise ValueError(f"unknown Retinex {reading!r}; available: {', '.join(READINGS)}")


def _release(images: Tensor) -> Tensor:
    """Stretch the mean over SIGMAS of log(1 + I / (Gaussian * I)), with I from 10 to 265.

    The stretch from the 2.5th to the 97.5th percentile of the image, all colours together, less 10,
    is clipped to 0 to 255. It is multiplied by the colour restoration log(1 + 3 I / (R + G + B)),
    relative to its mean over the image. The larger of this and the image is truncated. An image of
    one colour stays as it is.
    """
    intensity = images.float() + OFFSET
    ratios = [(1 + intensity / blurred).log() for blurred in _blurs(intensity)]
    detail = torch.stack(ratios).mean(0)
    low, high = torch.quantile(detail.flatten(1), torch.tensor(PERCENTILES).to(detail), dim=1)
    spread = (high - low).view(-1, 1, 1, 1)
    gain = torch.where(spread < 1e-5, 0.0, 255 / spread)  # rounding errors only
    stretched = ((detail - low.view(-1, 1, 1, 1)) * gain - OFFSET).clamp(0, 255)
    colour = (1 + 3 * intensity / intensity.sum(1, keepdim=True)).log()
    restored: Tensor = stretched * colour / colour.mean((1, 2, 3), keepdim=True)
    return restored.maximum(images.float()).clamp(max=255).to(torch.uint8)


def _deviations(images: Tensor) -> Tensor:
    """Stretch the mean over SIGMAS of log I - log(Gaussian * I), with I from 1 to 256.

    Mean -+ REACH standard deviations of the image, all colours together, become 0 and 255, and
    values beyond are clipped. An image of one colour gives zeros.
    """
    intensity = images.float() + 1
    detail = intensity.log()
    for blurred in _blurs(intensity):
        detail = detail - blurred.log() / len(SIGMAS)
    deviation, mean = torch.std_mean(detail, (1, 2, 3), keepdim=True)
    flat = deviation < 1e-5  # rounding errors only
    gain = torch.where(flat, 0.0, 255 / (2 * REACH * deviation))
    stretched = (detail - mean + REACH * deviation) * gain
    return stretched.clamp(0, 255).round().to(torch.uint8)


def _blurs(intensity: Tensor) -> Iterator[Tensor]:
    """Blur (N, 3, H, W) by each Gaussian."""
    for sigma in SIGMAS:
        rows, columns = (blur_matrix(size, sigma).to(intensity) for size in intensity.shape[-2:])
        yield rows @ intensity @ columns.T


def blur_mul_adds(height: int, width: int, reading: Reading) -> int:
    """Return the Mul-Adds of the matrix products of an image."""
    return 0 if reading == "none" else len(SIGMAS) * 3 * height * width * (height + width)
