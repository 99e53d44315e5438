"""Files to pixels without torch: within two grey levels of what the network was tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from reid_lab.pixels import UNREADABLE, read_pixels
from reid_lab.runtime.manifest import ExportError


def read(paths: Sequence[Path | str], size: tuple[int, int]) -> np.ndarray:
    """Files -> (N, height, width, 3) uint8 RGB.

    Raises:
        ExportError: a file is missing, broken, or no image; it is named.
    """
    pixels = [resize(decode(Path(path)), size) for path in paths]
    return np.stack(pixels) if pixels else np.empty((0, *size, 3), np.uint8)


def decode(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        ExportError: the file is missing, broken, or no image.
    """
    try:
        return read_pixels(path)
    except UNREADABLE as error:
        raise ExportError(
            f"{path} cannot be read as an image ({error}): replace or leave it out"
        ) from error


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 -> (*size, 3) uint8, bilinear with antialiasing."""
    if image.shape[:2] == size:
        return image
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)
