"""`attention.npz`: attention of a network in some query images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from reid_lab.files.atomic import replacing
from reid_lab.files.stored import StoredFileError, read_arrays

ATTENTION = "attention.npz"
MOST_IMAGES, MOST_LEVELS = 50, 20  # images and levels of a figure


@dataclass(frozen=True)
class Attention:
    """`pixels` (N, H, W, 3) uint8; for each level a soft map (N, h, w) and boxes (N, T, 4).

    Boxes are left, top, right, bottom in fractions of the image, and may reach beyond it.
    """

    pixels: np.ndarray
    levels: list[tuple[np.ndarray, np.ndarray]]


def write_attention(path: Path, attention: Attention) -> None:
    """Write `pixels`, and `soft<l>` and `boxes<l>` of each level, counted from 1."""
    arrays = {"pixels": attention.pixels}
    for number, (soft, boxes) in enumerate(attention.levels, 1):
        arrays |= {f"soft{number}": soft, f"boxes{number}": boxes}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_attention(path: Path) -> Attention | None:
    """Read the attention, at most as many images as a figure can show; None without a file.

    Raises:
        StoredFileError: the file is malformed.
    """
    if not os.path.lexists(path):
        return None
    arrays = read_arrays(path)
    try:
        count = sum(name.startswith("soft") for name in arrays)
        levels = [(arrays[f"soft{n}"], arrays[f"boxes{n}"]) for n in range(1, count + 1)]
        pixels = arrays["pixels"]
    except KeyError as error:
        raise StoredFileError(path, f"no array {error}") from error
    images = len(pixels) if pixels.ndim else 0
    fits = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
    for soft, boxes in levels:
        fits = fits and soft.dtype.kind == boxes.dtype.kind == "f"
        fits = fits and (soft.ndim, boxes.ndim, boxes.shape[-1:]) == (3, 3, (4,))
        fits = fits and len(soft) == len(boxes) == images
        fits = fits and bool(np.isfinite(soft).all() and np.isfinite(boxes).all())
    sizes = [pixels.shape, *(soft.shape for soft, _ in levels)]
    if not fits or 0 in chain(*sizes) or len(levels) > MOST_LEVELS:
        raise StoredFileError(path, "not the pixels, maps and boxes of some images")
    shown = slice(MOST_IMAGES)
    return Attention(pixels[shown], [(soft[shown], boxes[shown]) for soft, boxes in levels])
