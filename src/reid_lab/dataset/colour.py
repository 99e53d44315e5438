"""Colour jitter as torchvision defines it, in single passes over one image in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

Adjustment = Literal["brightness", "contrast", "saturation", "hue"]
Step = tuple[Adjustment, float]
LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of R, G and B


def draw_steps(ranges: Mapping[Adjustment, float], rng: np.random.Generator) -> tuple[Step, ...]:
    """torchvision's `ColorJitter`: factors of 1 +- range (hue: a shift of +- range), any order."""
    used = [name for name, reach in ranges.items() if reach]
    return tuple(_draw(used[i], ranges[used[i]], rng) for i in rng.permutation(len(used)))


def _draw(name: Adjustment, reach: float, rng: np.random.Generator) -> Step:
    if name == "hue":
        return name, rng.uniform(-reach, reach)
    return name, rng.uniform(max(0.0, 1 - reach), 1 + reach)


def adjust(image: np.ndarray, steps: tuple[Step, ...]) -> np.ndarray:
    """(3, H, W) uint8 -> float32 in [0, 255] and rounded, after each step in turn."""
    pixels = image.astype(np.float32)
    for name, amount in steps:
        STEPS[name](pixels, amount)
    return np.rint(pixels, out=pixels)


def brightness(pixels: np.ndarray, factor: float) -> None:
    pixels *= factor
    np.clip(pixels, 0, 255, out=pixels)


def contrast(pixels: np.ndarray, factor: float) -> None:
    """Away from, or towards, the image's mean grey."""
    mean = grey(pixels).mean()
    pixels *= factor
    pixels += (1 - factor) * mean
    np.clip(pixels, 0, 255, out=pixels)


def saturation(pixels: np.ndarray, factor: float) -> None:
    """Away from, or towards, each pixel's grey."""
    plain = grey(pixels) * (1 - factor)
    pixels *= factor
    pixels += plain
    np.clip(pixels, 0, 255, out=pixels)


def hue(pixels: np.ndarray, shift: float) -> None:
    """Round the hue circle by `shift` turns, keeping value and saturation."""
    red, green, blue = pixels
    value, chroma = pixels.max(0), np.ptp(pixels, axis=0)
    some = np.where(chroma > 0, chroma, np.float32(1))  # grey has no hue; any will do
    sixth = np.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some)
    sixth = np.where(value == red, (green - blue) / some, sixth) + 6 * shift
    for channel, offset in enumerate((5, 3, 1)):  # R, G, B of HSV without a case for each sixth
        k = sixth + offset
        k -= np.floor(k / 6) * 6  # np.mod takes ten times as long
        share = np.clip(np.minimum(k, 4 - k), 0, 1)
        np.subtract(value, share * chroma, out=pixels[channel])


def grey(pixels: np.ndarray) -> np.ndarray:
    """(3, H, W) -> (H, W)"""
    plain = pixels[0] * LUMA[0]
    plain += pixels[1] * LUMA[1]
    plain += pixels[2] * LUMA[2]
    return plain


STEPS: dict[Adjustment, Callable[[np.ndarray, float], None]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}
