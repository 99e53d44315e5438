"""Stores of embeddings: a folder on this machine, or a vector database.

store = FolderStore(folder)  # or MilvusStore.open(MilvusStore.connect("people.db"), "people")
store.add(rows, paths, people=names)
found = store.search(query, 10, where="camid!=2")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.writer import Writer, extend
from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.gallery_format.writer import locked, remove_where

Columns = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class NearestImages:
    """The nearest images of Q queries.

    Attributes:
        distances: (Q, k) float32, nearest first: Euclidean, or 1 - cosine.
        paths: Q lists of k paths.
    """

    distances: np.ndarray
    paths: list[list[str]]


class VectorStore(Protocol):
    """Embeddings of one exit of one model, keyed by the image's path."""

    @property
    def card(self) -> Card:
        """The model's fingerprint, exit and image size, D and the metric."""

    def __len__(self) -> int:
        """Number of images."""

    def known(self, paths: Sequence[str]) -> set[str]:
        """The subset of `paths` that the store holds."""

    def add(
        self,
        embeddings: np.ndarray,
        paths: Sequence[str],
        people: Sequence[str],
        cameras: Sequence[str],
        columns: Columns | None = None,
    ) -> None:
        """Add n images (n, D); they are stored when this returns.

        Args:
            embeddings: (n, D).
            paths: n paths that the store does not hold yet.
            people: n names; empty where the person is unknown.
            cameras: n names; empty where the camera is unknown.
            columns: metadata by name, n values each.

        Raises:
            UserError: rows of another dimension, or that cannot be compared.
        """

    def remove(self, where: str) -> int:
        """Remove the images that match a filter such as `pid='Ann Lee'`; return their number."""

    def paths(self) -> Iterable[str]:
        """Paths of all images, in no particular order."""

    def discard(self, paths: Sequence[str]) -> None:
        """Remove the images with these paths; unknown paths are ignored."""

    def search(self, query: np.ndarray, k: int, where: str = "") -> NearestImages:
        """The `k` nearest images of queries (Q, D) among those that match a filter."""


class FolderStore:
    """A gallery's folder (`reid-lab gallery build`) as a store."""

    def __init__(self, folder: Path | str) -> None:
        self.gallery = SavedGallery.open(folder)

    @property
    def card(self) -> Card:
        return self.gallery.card

    def __len__(self) -> int:
        return len(self.gallery)

    def known(self, paths: Sequence[str]) -> set[str]:
        return self.gallery.known_paths & {*paths}

    def add(
        self,
        embeddings: np.ndarray,
        paths: Sequence[str],
        people: Sequence[str],
        cameras: Sequence[str],
        columns: Columns | None = None,
    ) -> None:
        with extend(self.gallery, self.card.fingerprint) as writer:
            writer.append_named(embeddings, paths, people, cameras, columns)
        self.gallery = SavedGallery.open(self.gallery.folder)

    def remove(self, where: str) -> int:
        with locked(self.gallery.folder):
            writer = Writer(self.gallery)
            gone = remove_where(writer, where)
            writer.update_index()
        self.gallery = SavedGallery.open(self.gallery.folder)
        return len(gone)

    def paths(self) -> Iterable[str]:
        return self.gallery.paths()

    def discard(self, paths: Sequence[str]) -> None:
        gone = {*paths}
        with locked(self.gallery.folder):
            writer = Writer(self.gallery)
            rows = np.array([path in gone for path in self.gallery.paths()], bool)
            if rows.any():
                writer.remove(rows)
                writer.update_index()
        self.gallery = SavedGallery.open(self.gallery.folder)

    def search(self, query: np.ndarray, k: int, where: str = "") -> NearestImages:
        distances, rows = self.gallery.search(query, k, where)
        return NearestImages(distances, [[self.gallery.path(row) for row in one] for one in rows])


def load_gallery(
    gallery: SavedGallery,
    store: VectorStore,
    batch: int = 1000,
    progress: Callable[[int], None] = lambda images: None,
) -> int:
    """Add a gallery's images to a store in batches; return the number of added images.

    A batch is sent once the store has written the one before. Images that the store holds are
    skipped, so that a load that was killed can continue.

    Args:
        gallery: gallery with the store's model, exit and metric.
        store: it may hold some of the images.
        batch: images per batch.
        progress: called with the number of images of each batch.

    Raises:
        GalleryError: embeddings of another model, exit, image size or metric.
    """
    check_same_card(store.card, gallery.card, gallery.folder)
    paths, added = gallery.paths(), 0
    people, cameras = (gallery.names_of(name) for name in ("pid", "camid"))
    columns = {name: gallery.column(name) for name in gallery.card.columns}
    for start in range(0, len(gallery), batch):
        part = range(start, min(start + batch, len(gallery)))
        known = store.known([paths[row] for row in part])
        rows = [row for row in part if paths[row] not in known]
        if rows:
            store.add(
                gallery.checked[rows].astype(np.float32),
                [paths[row] for row in rows],
                [people[row] for row in rows],
                [cameras[row] for row in rows],
                {name: [values[row] for row in rows] for name, values in columns.items()},
            )
        added += len(rows)
        progress(len(part))
    return added


def prune(gallery: SavedGallery, store: VectorStore) -> int:
    """Remove the images that the gallery does not have; return their number."""
    kept = {*gallery.paths()}
    gone = [path for path in store.paths() if path not in kept]
    store.discard(gone)
    return len(gone)


def check_same_card(ours: Card, theirs: Card, what: object) -> None:
    """Check that embeddings of two cards can be compared.

    Raises:
        GalleryError: another model, exit, image size, metric or D.
    """
    for name in ("fingerprint", "exit", "image", "metric", "dim"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine != other:
            raise GalleryError(
                f"the store has {name}={str(mine)[:12]}, {what} has {name}={str(other)[:12]}: "
                "their embeddings cannot be compared, give another store or build the gallery again"
            )
