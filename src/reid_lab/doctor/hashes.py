"""Near-duplicate images: a difference hash, and a search among millions of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from reid_lab.optional import load

ROWS, COLUMNS = 8, 8  # shape of the hash: 64 bits
DETAIL = 4  # rows and columns of the thumbnail for one of the hash's
THUMBNAIL = (ROWS * DETAIL, (COLUMNS + 1) * DETAIL)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (32, 36) uint8, grey."""
    height, width = THUMBNAIL
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX))


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 32, 36) grey -> (N, 8) uint8: 64 bits, whether it gets brighter from left to right."""
    cells = thumbnails.reshape(-1, ROWS, DETAIL, COLUMNS + 1, DETAIL).mean((2, 4))
    return np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(-1, ROWS * COLUMNS), axis=1)


def check_installed() -> Any:
    """Import faiss, which searches millions of pairs.

    Raises:
        MissingPackageError: it cannot be imported.
    """
    return load("faiss", "the search for near-duplicates")


def within(a: np.ndarray, b: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j) of hashes a (N, 8) and b (M, 8) that differ in `radius` bits at most."""
    if not len(a) or not len(b):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    index = check_installed().IndexBinaryFlat(8 * b.shape[1])
    index.add(np.ascontiguousarray(b))
    limits, _, found = index.range_search(np.ascontiguousarray(a), radius + 1)
    return np.repeat(np.arange(len(a)), (limits[1:] - limits[:-1]).astype(np.int64)), found
