"""Decode and resize images without torch, within two grey levels of the resizing in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reid_lab.files.regular import escaped
from reid_lab.images.files import find_images
from reid_lab.images.pixels import ImageError, read_pixels
from reid_lab.runtime.manifest import ExportError


def read(paths: Sequence[Path | str], size: tuple[int, int]) -> np.ndarray:
    """Decode and resize files: (N, height, width, 3) uint8 RGB.

    Raises:
        ExportError: a file is missing, broken, or not an image; it is named.
    """
    pixels = [resize(decode(Path(path)), size) for path in paths]
    return np.stack(pixels) if pixels else np.empty((0, *size, 3), np.uint8)


@dataclass(frozen=True)
class PixelBatch:
    """Readable `paths` with their `pixels`; `broken`: messages of the other files."""

    paths: list[Path]
    pixels: np.ndarray  # (n, height, width, 3) uint8
    broken: list[str]


def batches(paths: Sequence[Path], size: tuple[int, int], most: int) -> Iterator[PixelBatch]:
    """Decode `paths`, `most` at a time; files that cannot be read are left out and reported."""
    for start in range(0, len(paths), most):
        some = paths[start : start + most]
        tried = [_read(path, size) for path in some]
        good = [i for i, pixels in enumerate(tried) if isinstance(pixels, np.ndarray)]
        pixels = np.stack([tried[i] for i in good]) if good else np.empty((0, *size, 3), np.uint8)
        yield PixelBatch([some[i] for i in good], pixels, [x for x in tried if isinstance(x, str)])


def _read(path: Path, size: tuple[int, int]) -> np.ndarray | str:
    """(*size, 3) uint8, or a message if the file cannot be read."""
    try:
        return resize(decode(path), size)
    except ExportError as error:
        return str(error)


def expanded(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Replace folders by their images; return absolute paths and notes on other files.

    Raises:
        UserError: a folder has no images.
    """
    found, notes = [], []
    for path in paths:
        inside, note = find_images(path) if path.is_dir() else ([path.absolute()], "")
        found += inside
        notes += [f"{escaped(path)}: {note}"] if note else []
    return found, notes


def decode(path: Path) -> np.ndarray:
    """Decode a file: (H, W, 3) uint8 RGB.

    Raises:
        ExportError: the file is missing, broken, or not an image.
    """
    try:
        return read_pixels(path)
    except ImageError as error:
        raise ExportError(str(error)) from error


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w, 3) uint8 -> (*size, 3) uint8, bilinear with antialiasing."""
    if image.shape[:2] == size:
        return image
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)
