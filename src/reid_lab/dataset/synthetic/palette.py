"""Colours of skin, hair and cloth (RGB, 0 to 255)."""

from __future__ import annotations

import colorsys

import numpy as np

RGB = tuple[int, int, int]

SKIN: tuple[RGB, ...] = (
    (244, 208, 184), (233, 190, 160), (219, 172, 138), (196, 146, 110),
    (164, 116, 82), (128, 86, 60), (94, 62, 46),
)  # fmt: skip
HAIR: tuple[RGB, ...] = (
    (28, 24, 24), (28, 24, 24), (52, 36, 28), (84, 56, 36), (124, 86, 52),
    (196, 158, 98), (226, 200, 146), (150, 66, 36), (150, 148, 146), (214, 212, 208),
)  # fmt: skip
CLOTH: tuple[RGB, ...] = (  # dark and grey are more frequent
    (34, 34, 38), (34, 34, 38), (34, 34, 38), (78, 80, 86), (78, 80, 86), (136, 138, 142),
    (196, 196, 196), (236, 234, 228), (236, 234, 228), (30, 42, 84), (30, 42, 84), (44, 82, 168),
    (92, 150, 214), (28, 126, 130), (40, 108, 58), (112, 160, 62), (104, 104, 56), (226, 198, 60),
    (232, 134, 44), (204, 44, 44), (128, 28, 44), (226, 120, 152), (122, 64, 146), (176, 148, 204),
    (118, 78, 48), (204, 178, 138),
)  # fmt: skip
LEGWEAR: tuple[RGB, ...] = (
    (32, 32, 36), (40, 44, 58), (34, 48, 88), (66, 92, 142), (116, 146, 188), (90, 92, 96),
    (150, 150, 152), (196, 176, 138), (106, 84, 58), (88, 92, 60), (222, 218, 208), (122, 40, 48),
    (40, 84, 70),
)  # fmt: skip
SHOES: tuple[RGB, ...] = (
    (28, 28, 30), (236, 236, 234), (110, 70, 42), (198, 44, 44), (48, 92, 180), (150, 150, 150),
    (228, 196, 60), (60, 150, 84), (230, 120, 160),
)  # fmt: skip


def pick(rng: np.random.Generator, colours: tuple[RGB, ...], spread: float = 1.0) -> RGB:
    """Choose one of the colours, and vary it."""
    return vary(rng, colours[int(rng.integers(len(colours)))], spread)


def vary(rng: np.random.Generator, colour: RGB, spread: float = 1.0) -> RGB:
    """Vary hue, saturation and value a little; `spread` scales the variation."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    hue = (hue + float(rng.uniform(-0.025, 0.025)) * spread) % 1.0
    saturation = min(1.0, max(0.0, saturation * (1 + float(rng.uniform(-0.2, 0.2)) * spread)))
    value = min(0.97, max(0.09, value * (1 + float(rng.uniform(-0.18, 0.18)) * spread)))
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def scaled(colour: RGB, factor: float) -> RGB:
    """Make a colour darker (factor < 1) or lighter, clipped to 0 to 255."""
    red, green, blue = (min(255, max(0, int(c * factor))) for c in colour)
    return red, green, blue


def distance(one: RGB, other: RGB) -> float:
    """Return the Euclidean distance in RGB."""
    return float(np.linalg.norm(np.subtract(one, other)))


def contrasting(
    rng: np.random.Generator, colours: tuple[RGB, ...], *others: RGB, apart: float = 110.0
) -> RGB:
    """Choose a colour at distance `apart` or more from the others; else the farthest of 12."""
    draws = [pick(rng, colours) for _ in range(12)]
    gaps = [min(distance(draw, other) for other in others) for draw in draws]
    for draw, gap in zip(draws, gaps, strict=True):
        if gap >= apart:
            return draw
    return draws[int(np.argmax(gaps))]
