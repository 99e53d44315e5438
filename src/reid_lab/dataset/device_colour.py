"""The colour jitter of `reid_lab.dataset.colour` on a batch, with different steps per image."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from reid_lab.dataset.colour import LUMA, Adjustment

STEP_INDEX: dict[Adjustment, int] = {name: n for n, name in enumerate(get_args(Adjustment))}


def adjust_batch(images: Tensor, steps: Tensor, hue: bool) -> Tensor:
    """Apply each image's own steps in order: (N, 3, H, W) uint8 -> (N, 3, H, W) uint8.

    All adjustments are computed for all images and selected by masks, because indexing by mask
    would synchronise the CPU with the GPU.

    Args:
        steps: (N, steps, 2) float32: index of the adjustment (`STEP_INDEX`) and its amount.
        hue: whether any step adjusts the hue; False skips its computation, the most expensive.
    """
    pixels = images.float()
    for step in steps[..., None, None, None].unbind(1):
        which, amount = step.unbind(1)  # (N, 1, 1, 1) each
        blended = blend(pixels, which, amount)
        if hue:
            blended = torch.where(
                which == STEP_INDEX["hue"], shift_hue_batch(pixels, amount), blended
            )
        pixels = blended
    return pixels.round_().to(torch.uint8)


def blend(pixels: Tensor, which: Tensor, factor: Tensor) -> Tensor:
    """Blend with black (brightness), the mean grey (contrast) or each pixel's grey (saturation)."""
    red, green, blue = pixels.split(1, 1)
    grey = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]  # (N, 1, H, W)
    mean = grey.mean((2, 3), keepdim=True)
    towards = torch.where(which == STEP_INDEX["saturation"], grey, mean)
    towards = torch.where(which == STEP_INDEX["brightness"], 0.0, towards)
    return (pixels * factor + towards * (1 - factor)).clamp_(0, 255)


def shift_hue_batch(pixels: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue by `shift` turns; value and saturation are unchanged."""
    red, green, blue = pixels.split(1, 1)
    value = pixels.amax(1, keepdim=True)
    chroma = value - pixels.amin(1, keepdim=True)
    divisor = torch.where(chroma > 0, chroma, 1.0)  # grey has no hue
    sixth = torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    sixth = torch.where(value == red, (green - blue) / divisor, sixth) + 6 * shift
    k = torch.cat([sixth + offset for offset in (5, 3, 1)], 1)  # HSV to R, G, B
    k = k - (k / 6).floor() * 6
    return value - torch.minimum(k, 4 - k).clamp_(0, 1) * chroma
