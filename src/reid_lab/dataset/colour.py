"""Colour jitter with torchvision's definitions, in float32 on one (3, H, W) image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

Adjustment = Literal["brightness", "contrast", "saturation", "hue"]
Step = tuple[Adjustment, float]
LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of R, G and B


def draw_steps(ranges: Mapping[Adjustment, float], rng: np.random.Generator) -> tuple[Step, ...]:
    """Draw the adjustments of torchvision's `ColorJitter`, in random order.

    Args:
        ranges: r for each adjustment: a factor of max(0, 1 - r) to 1 + r; for hue a shift of -r to
            r turns. 0 leaves the adjustment out.
    """
    used = [name for name, reach in ranges.items() if reach]
    return tuple(_draw(used[i], ranges[used[i]], rng) for i in rng.permutation(len(used)))


def _draw(name: Adjustment, reach: float, rng: np.random.Generator) -> Step:
    if name == "hue":
        return name, rng.uniform(-reach, reach)
    return name, rng.uniform(max(0.0, 1 - reach), 1 + reach)


def adjust(image: np.ndarray, steps: tuple[Step, ...]) -> np.ndarray:
    """Apply the steps in order: (3, H, W) uint8 -> (3, H, W) float32, whole numbers 0 to 255."""
    pixels = image.astype(np.float32)
    for name, amount in steps:
        STEPS[name](pixels, amount)
    return np.rint(pixels, out=pixels)


def brightness(pixels: np.ndarray, factor: float) -> None:
    """Blend with black, in place."""
    pixels *= factor
    np.clip(pixels, 0, 255, out=pixels)


def contrast(pixels: np.ndarray, factor: float) -> None:
    """Blend with the image's mean grey, in place."""
    mean = grey(pixels).mean()
    pixels *= factor
    pixels += (1 - factor) * mean
    np.clip(pixels, 0, 255, out=pixels)


def saturation(pixels: np.ndarray, factor: float) -> None:
    """Blend with each pixel's grey, in place."""
    luma = grey(pixels) * (1 - factor)
    pixels *= factor
    pixels += luma
    np.clip(pixels, 0, 255, out=pixels)


def hue(pixels: np.ndarray, shift: float) -> None:
    """Rotate the hue by `shift` turns, in place; value and saturation are unchanged."""
    red, green, blue = pixels
    value, chroma = pixels.max(0), np.ptp(pixels, axis=0)
    divisor = np.where(chroma > 0, chroma, np.float32(1))  # grey has no hue
    sixth = np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    sixth = np.where(value == red, (green - blue) / divisor, sixth) + 6 * shift
    for channel, offset in enumerate((5, 3, 1)):  # HSV to R, G, B without a case for each sixth
        k = sixth + offset
        k -= np.floor(k / 6) * 6  # np.mod is ten times slower
        share = np.clip(np.minimum(k, 4 - k), 0, 1)
        np.subtract(value, share * chroma, out=pixels[channel])


def grey(pixels: np.ndarray) -> np.ndarray:
    """Luma: (3, H, W) -> (H, W)."""
    luma = pixels[0] * LUMA[0]
    luma += pixels[1] * LUMA[1]
    luma += pixels[2] * LUMA[2]
    result: np.ndarray = luma
    return result


STEPS: dict[Adjustment, Callable[[np.ndarray, float], None]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}
