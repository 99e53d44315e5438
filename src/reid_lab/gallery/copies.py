"""Images of a gallery that have the very embedding of another one: copies, or mistakes."""

from __future__ import annotations

import shlex

import numpy as np
from rich.text import Text

from reid_lab.files.regular import escaped
from reid_lab.gallery_format.rows import UNKNOWN, GalleryRows
from reid_lab.output.console import stderr

BLOCK = 1 << 16  # rows that are read at a time


def copies(gallery: GalleryRows, start: int) -> list[tuple[int, int]]:
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


def tell(gallery: GalleryRows, start: int) -> None:
    """Note copies among the rows from `start` on, and warn of those of two people."""
    found, people = copies(gallery, start), gallery.numbers["pid"]
    known = [(i, j) for i, j in found if UNKNOWN not in (people[i], people[j])]
    wrong = [(i, j) for i, j in known if people[i] != people[j]]
    for kind, pairs, what in (
        ("note", [pair for pair in found if pair not in {*wrong}], "another"),
        ("warning", wrong, "another person's"),
    ):
        if pairs:
            i, j = pairs[0]
            new, old = (escaped(gallery.path(row)) for row in (i, j))
            count = f"{len(pairs):,} image{'s are copies' if len(pairs) > 1 else ' is a copy'}"
            text = f"{kind}: {count} of {what}: {new} of {old}"
            if pairs is wrong:
                remove = ["reid-lab", "gallery", "remove", str(gallery.folder), "--file", new]
                text += f": one of the two is wrong ({shlex.join(remove)})"
            stderr.print(Text(text), soft_wrap=True)
