"""Images of a gallery that have the same embedding as another one: copies, or mistakes."""

from __future__ import annotations

import numpy as np

from reid_lab.gallery_format.rows import GalleryRows

BLOCK = 1 << 16  # rows that are read at a time


def find_copies(gallery: GalleryRows, start: int) -> list[tuple[int, int]]:
    """Pairs of a row from `start` on and the first row before it with the same embedding.

    Rows are equal to the last bit if one machine embedded them in batches of one size.
    """
    rows = gallery.embeddings
    new = np.unique(rows[start:, 0])
    earliest: dict[int, int] = {}  # hash -> row
    found = []
    for block in range(0, len(rows), BLOCK):
        alike = block + np.flatnonzero(np.isin(rows[block : block + BLOCK, 0], new))
        for i in alike.tolist():
            before = earliest.setdefault(hash(rows[i].tobytes()), i)
            if start <= i != before and np.array_equal(rows[i], rows[before]):
                found.append((i, before))
    return found
