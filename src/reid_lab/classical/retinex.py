"""Multi-scale Retinex: colours as an observer sees them, whatever the light (Jobson et al. 1997).

By matrix products: an image's height and width are blurred with one small matrix each, whose
rows hold the Gaussian, its part beyond the border folded onto the border's pixel.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SIGMAS = (5.0, 20.0)  # LOMO, section 3.1
REACH = 2.0  # standard deviations on either side of the mean


@lru_cache
def blur_matrix(size: int, sigma: float) -> Tensor:
    """(size, size) float32: row i holds what each pixel gives to the blurred pixel i."""
    radius = 3 * round(sigma)
    steps = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-(steps.double() ** 2) / (2 * sigma**2))
    taken = (torch.arange(size)[:, None] + steps).clamp(0, size - 1)  # (size, 2 radius + 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, taken, (kernel / kernel.sum()).expand(size, -1))
    return matrix.float()


def retinex(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> uint8 (N, 3, H, W), each image stretched to 0..255.

    The mean over SIGMAS of log I - log(Gaussian * I), I from 1 to 256. Gain and offset are set
    by the image, one pair for its three colours together, so that the colours keep their
    relation: mean -+ REACH deviations become 0 and 255, and what is beyond is cut off. LOMO's
    section 3.1 has such a stretch, without its formula; the authors' Retinex is a binary. An
    image of one colour gives zeros.
    """
    height, width = images.shape[-2:]
    intensity = images.float() + 1
    seen = intensity.log()
    for sigma in SIGMAS:
        rows, columns = (blur_matrix(size, sigma).to(images.device) for size in (height, width))
        seen = seen - (rows @ intensity @ columns.T).log() / len(SIGMAS)
    deviation, mean = torch.std_mean(seen, (1, 2, 3), keepdim=True)
    flat = deviation < 1e-5  # rounding alone
    gain = torch.where(flat, 0.0, 255 / (2 * REACH * deviation))
    stretched = (seen - mean + REACH * deviation) * gain
    return stretched.clamp(0, 255).round().to(torch.uint8)


def blur_mul_adds(height: int, width: int) -> int:
    """Of the matrix products of one image."""
    return len(SIGMAS) * 3 * height * width * (height + width)
