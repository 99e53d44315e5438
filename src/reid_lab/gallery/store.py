"""A saved gallery in use: fast to open, memory-mapped, searched by its index.

gallery = SavedGallery.open("people.gallery")
distances, rows = gallery.search(embeddings, 10)  # (Q, 10) each
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.gallery.flat import Flat, Found
from reid_lab.gallery.index import Approximate, Index, build, fits
from reid_lab.gallery_format.card import INDEX, GalleryError, check_inside
from reid_lab.gallery_format.rows import UNKNOWN, GalleryRows, check_crc32, mapped
from reid_lab.retrieval.embeddings import Ids

__all__ = ["UNKNOWN", "SavedGallery"]


class SavedGallery(GalleryRows):
    """A gallery with its index. Rows that are appended after opening are not visible.

    Card, ids and paths are checked when it is opened, the embeddings when they are first compared.
    """

    @staticmethod
    def open(folder: Path | str) -> SavedGallery:
        """See `open_rows`."""
        return SavedGallery.open_rows(folder)

    @property
    def pids(self) -> Tensor:
        """(N,) int64; UNKNOWN if not known."""
        return torch.from_numpy(self.numbers["pid"].astype(np.int64))

    @property
    def camids(self) -> Tensor:
        """(N,) int64; UNKNOWN if not known."""
        return torch.from_numpy(self.numbers["camid"].astype(np.int64))

    def ids(self) -> Ids:
        return Ids(self.pids, self.camids, np.array(self.paths(), dtype=object))

    def check_model(self, fingerprint: str) -> None:
        """Check that the gallery was built by the model with this fingerprint.

        Raises:
            GalleryError: it was built by another model.
        """
        if fingerprint != self.card.fingerprint:
            raise GalleryError(
                f"{self.folder} holds embeddings of the model {self.card.fingerprint[:12]}, this "
                f"one is {fingerprint[:12]}: embeddings of two models cannot be compared. Use the "
                "checkpoint that it was built from, or build another gallery"
            )

    def check_same_space(self, other: SavedGallery) -> None:
        """Check that the embeddings of `other` can be compared with the gallery's.

        Raises:
            GalleryError: another model, exit, metric or image size.
        """
        self.check_model(other.card.fingerprint)
        for name in ("exit", "image", "metric", "dim"):
            ours, theirs = getattr(self.card, name), getattr(other.card, name)
            if ours != theirs:
                raise GalleryError(
                    f"{self.folder} has {name}={ours}, {other.folder} {name}={theirs}: their "
                    "embeddings cannot be compared, build one of them again"
                )

    def search(self, query: Tensor | np.ndarray, k: int, where: str = "") -> Found:
        """The `k` nearest rows of queries (Q, D), by the gallery's index; see `Index.search`.

        Args:
            query: (Q, D).
            k: number of matches per query.
            where: filter; only matching images are searched, exactly; see `select`.

        Raises:
            UserError: an empty gallery, an invalid filter, or one without matching images.
        """
        if len(self) and not where.strip():
            return self.index.search(query, k)
        rows = self.selected(where)
        part = Flat(self.checked[rows], self.card.metric, self.unit_rows)
        distances, found = part.search(query, k)
        return distances, rows[found]

    @cached_property
    def index(self) -> Index:
        """The index over all rows, with rows that an interrupted append left out."""
        index = self.saved_index()
        if index is None:
            name = self.card.index if fits(self.card.index, len(self)) else "flat"
            return build(name, self.checked, self.card.metric, self.unit_rows)
        if len(index) < len(self):
            index.add(self.checked[len(index) :])
        return index

    def saved_index(self) -> Approximate | None:
        """The index on disk; None if there is none or it has other rows.

        Raises:
            UserError: the file has changed since it was written, or is another index.
        """
        card = self.card
        path = self.folder / card.index_file
        if card.index == "flat" or not path.is_file():
            return None
        check_inside(path)
        if INDEX in card.crc32:
            check_crc32(path, card, mapped(path, np.dtype(np.uint8), path.stat().st_size))
        index = Approximate.load(path, card.index, card.metric, card.dim, card.trained)
        return index if len(index) == (card.indexed or len(index)) <= len(self) else None

    @property
    def unit_rows(self) -> bool:
        return self.card.metric == "cosine"
