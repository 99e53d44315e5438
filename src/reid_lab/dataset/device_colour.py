"""The colour jitter of `reid_lab.dataset.colour` on batches, each image with steps of its own."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from reid_lab.dataset.colour import LUMA, Adjustment

STEP_INDEX: dict[Adjustment, int] = {name: n for n, name in enumerate(get_args(Adjustment))}


def adjust_batch(images: Tensor, steps: Tensor, hue: bool) -> Tensor:
    """(N, 3, H, W) uint8, after each of an image's steps in turn and rounded.

    Every step is computed for all images, and each takes what its own says: to take them apart
    would make the processor wait for a GPU.

    Args:
        steps: (N, steps, 2) float32: the number of the adjustment, and its amount.
        hue: whether there are steps of hue, which cost the most.
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
    """Away from, or towards, black, the image's mean grey, or each pixel's grey."""
    red, green, blue = pixels.split(1, 1)
    grey = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]  # (N, 1, H, W)
    mean = grey.mean((2, 3), keepdim=True)
    towards = torch.where(which == STEP_INDEX["saturation"], grey, mean)
    towards = torch.where(which == STEP_INDEX["brightness"], 0.0, towards)
    return (pixels * factor + towards * (1 - factor)).clamp_(0, 255)


def shift_hue_batch(pixels: Tensor, shift: Tensor) -> Tensor:
    """Round the hue circle by `shift` turns, keeping value and saturation."""
    red, green, blue = pixels.split(1, 1)
    value = pixels.amax(1, keepdim=True)
    chroma = value - pixels.amin(1, keepdim=True)
    some = torch.where(chroma > 0, chroma, 1.0)  # grey has no hue; any will do
    sixth = torch.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some)
    sixth = torch.where(value == red, (green - blue) / some, sixth) + 6 * shift
    k = torch.cat([sixth + offset for offset in (5, 3, 1)], 1)  # R, G, B of HSV
    k = k - (k / 6).floor() * 6
    return value - torch.minimum(k, 4 - k).clamp_(0, 1) * chroma
