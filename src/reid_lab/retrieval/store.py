"""A gallery on disk: opened fast, mapped into memory, searched by its index.

Card, ids and paths are checked when it is opened, the embeddings when they are first compared
(see `reid_lab.files.gallery_files`).

gallery = SavedGallery.open("people.gallery")
distances, rows = gallery.search(embeddings, 10)  # (Q, 10) each
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.files.gallery_files import (
    EMBEDDINGS,
    INDEX,
    UNKNOWN,
    Card,
    GalleryError,
    all_paths,
    check_crc32,
    check_embeddings,
    check_inside,
    map_ids,
    mapped,
    path_in,
    read_ids,
)
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.flat import Found
from reid_lab.retrieval.index import Approximate, Index, build

__all__ = ["UNKNOWN", "SavedGallery"]


@dataclass(frozen=True, eq=False)
class SavedGallery:
    """The rows that were there when it was opened, read from disk as they are used.

    `embeddings` (N, D) float32 or float16; `numbers` (N,) with `pid`, `camid` and the `end` of
    each path in `path_bytes`. What is appended later is seen by those who open it later.
    """

    folder: Path
    card: Card
    embeddings: np.ndarray
    numbers: np.ndarray
    path_bytes: np.ndarray

    @staticmethod
    def open(folder: Path | str) -> SavedGallery:
        """The gallery in `folder`; its embeddings are not read.

        Raises:
            GalleryError: no gallery, or one that is incomplete, damaged or of a newer format.
        """
        folder = Path(folder)
        card = Card.read(folder)
        embeddings = mapped(folder / EMBEDDINGS, card.row_dtype, card.count, card.dim)
        return SavedGallery(folder, card, embeddings, *read_ids(folder, card))

    def reopened(self, card: Card) -> SavedGallery:
        """With what its writer has appended, which it need not check."""
        embeddings = mapped(self.folder / EMBEDDINGS, card.row_dtype, card.count, card.dim)
        return SavedGallery(self.folder, card, embeddings, *map_ids(self.folder, card))

    def __len__(self) -> int:
        return self.card.count

    @property
    def pids(self) -> Tensor:
        """(N,) int64, `UNKNOWN` where it is not known."""
        return torch.from_numpy(self.numbers["pid"].astype(np.int64))

    @property
    def camids(self) -> Tensor:
        """(N,) int64, `UNKNOWN` where it is not known."""
        return torch.from_numpy(self.numbers["camid"].astype(np.int64))

    def path(self, row: int) -> str:
        start = int(self.numbers["end"][row - 1]) if row else 0
        return path_in(self.path_bytes, start, int(self.numbers["end"][row]))

    def paths(self) -> list[str]:
        """All N."""
        return all_paths(self.path_bytes, self.numbers)

    def ids(self) -> Ids:
        return Ids(self.pids, self.camids, np.array(self.paths(), dtype=object))

    def check_model(self, fingerprint: str) -> None:
        """Whether embeddings of the model with this fingerprint belong here.

        Raises:
            GalleryError: they are another model's.
        """
        if fingerprint != self.card.fingerprint:
            raise GalleryError(
                f"{self.folder} holds embeddings of the model {self.card.fingerprint[:12]}, this "
                f"one is {fingerprint[:12]}: embeddings of two models cannot be compared. Use the "
                "checkpoint that it was built from, or build another gallery"
            )

    def check_same_space(self, other: SavedGallery) -> None:
        """Whether the embeddings of `other` can be compared with these.

        Raises:
            GalleryError: another model, another exit of it, or images of another size.
        """
        self.check_model(other.card.fingerprint)
        for name in ("exit", "image", "metric", "dim"):
            ours, theirs = getattr(self.card, name), getattr(other.card, name)
            if ours != theirs:
                raise GalleryError(
                    f"{self.folder} has {name}={ours}, {other.folder} {name}={theirs}: their "
                    "embeddings cannot be compared, build one of them again"
                )

    def search(self, query: Tensor | np.ndarray, k: int) -> Found:
        """The `k` nearest rows of queries (Q, D), by the gallery's index; see `Index.search`."""
        return self.index.search(query, k)

    @cached_property
    def checked(self) -> np.ndarray:
        """The embeddings (N, D), all of them read once.

        Raises:
            GalleryError: they have changed since they were written, or cannot be compared.
        """
        check_embeddings(self.folder / EMBEDDINGS, self.card, self.embeddings)
        return self.embeddings

    @cached_property
    def index(self) -> Index:
        """The index over all rows. What an interrupted append did not bring into it is added."""
        index = self.saved_index()
        if index is None:
            return build(self.card.index, self.checked, self.card.metric, self.unit_rows)
        if len(index) < len(self):
            index.add(self.checked[len(index) :])
        return index

    def saved_index(self) -> Approximate | None:
        """The index as it lies on disk; None where it is not there, or is not of these rows.

        Raises:
            UserError: the file has changed since it was written, or is no such index.
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
