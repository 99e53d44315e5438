"""Multi-scale Retinex: colours independent of the illumination (Jobson et al. 1997).

The Gaussian blur is done by matrix products along height and width. The rows of a matrix hold the
Gaussian; weights beyond the border are added to the border's pixel.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SIGMAS = (5.0, 20.0)  # LOMO, section 3.1
REACH = 2.0  # standard deviations on either side of the mean that are kept


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


def retinex(images: Tensor) -> Tensor:
    """Apply multi-scale Retinex: uint8 (N, 3, H, W) -> uint8 (N, 3, H, W).

    The mean over SIGMAS of log I - log(Gaussian * I), with I from 1 to 256, is stretched linearly:
    mean -+ REACH deviations of an image become 0 and 255, and values beyond are clipped. The three
    colours of an image share gain and offset. LOMO's section 3.1 mentions a stretch without its
    formula, and the authors' Retinex is a binary. An image of one colour gives zeros.
    """
    height, width = images.shape[-2:]
    intensity = images.float() + 1
    detail = intensity.log()
    for sigma in SIGMAS:
        rows, columns = (blur_matrix(size, sigma).to(images.device) for size in (height, width))
        detail = detail - (rows @ intensity @ columns.T).log() / len(SIGMAS)
    deviation, mean = torch.std_mean(detail, (1, 2, 3), keepdim=True)
    flat = deviation < 1e-5  # rounding errors only
    gain = torch.where(flat, 0.0, 255 / (2 * REACH * deviation))
    stretched = (detail - mean + REACH * deviation) * gain
    return stretched.clamp(0, 255).round().to(torch.uint8)


def blur_mul_adds(height: int, width: int) -> int:
    """Return the Mul-Adds of the matrix products of an image."""
    return len(SIGMAS) * 3 * height * width * (height + width)
