"""A vector store in place of a gallery's index."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from reid_lab.gallery.flat import Found
from reid_lab.gallery.milvus import MilvusStore
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.texts import images
from reid_lab.gallery.vectors import VectorStore, check_same_card, load_gallery, prune
from reid_lab.gallery_format.card import GalleryError, IndexMetric, IndexName

BATCH = 1000  # images that are sent at a time


class StoreIndex:
    """A store with a gallery's images, as an index over the gallery's rows.

    Args:
        gallery: gives paths, people and metadata.
        store: store with the same model, exit and metric.
        nbytes: size of the store in bytes, if known.
        load_options: words of `gallery load` for this store; errors print them.

    Raises:
        GalleryError: embeddings of another model, or another number of images.
    """

    trained = 0
    name: IndexName = "flat"  # exact

    def __init__(
        self,
        gallery: SavedGallery,
        store: VectorStore,
        nbytes: int = 0,
        load_options: Sequence[str] = (),
    ) -> None:
        check_same_card(store.card, gallery.card, gallery.folder)
        load = ["reid-lab", "gallery", "load", str(gallery.folder), "--prune", *load_options]
        self._again = f"run {shlex.join(load)}"
        if len(store) != len(gallery):
            raise GalleryError(
                f"the store has {images(len(store))}, {gallery.folder} {len(gallery):,}: "
                f"{self._again}"
            )
        self.gallery, self.store, self.nbytes = gallery, store, nbytes
        self.metric: IndexMetric = gallery.card.metric

    def __len__(self) -> int:
        return len(self.gallery)

    @property
    def numbers(self) -> np.ndarray:
        """The gallery's people and cameras by row."""
        return self.gallery.numbers

    @property
    def names(self) -> Mapping[int, str]:
        """The names of the gallery's people and cameras."""
        return self.gallery.names

    def search(self, query: Tensor | np.ndarray, k: int, where: str = "") -> Found:
        """Search like `SavedGallery.search`."""
        wanted = query.numpy() if isinstance(query, torch.Tensor) else query
        found = self.store.search(wanted, min(k, len(self)), where)
        try:
            rows = [[self._rows[path] for path in paths] for paths in found.paths]
        except KeyError as error:
            raise GalleryError(
                f"the store has {error.args[0]}, {self.gallery.folder} does not: {self._again}"
            ) from error
        return found.distances, np.array(rows, np.int64)

    def add(self, embeddings: Tensor | np.ndarray) -> None:
        """Not supported: a store needs paths.

        Raises:
            GalleryError: always.
        """
        raise GalleryError("add images to the gallery, then run reid-lab gallery load")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.gallery.paths())}


@dataclass(frozen=True)
class LoadResult:
    """Numbers of images that were added to a collection and removed from it, and of all now."""

    added: int
    removed: int
    total: int


def load_milvus(
    gallery: SavedGallery | Path | str,
    uri: str = "people.db",
    *,
    collection: str = "people",
    token: str = "",
    prune_others: bool = False,
    replace_all: bool = False,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LoadResult:
    """Send to Milvus the images of a gallery that it does not have yet.

    Args:
        gallery: gallery, or its folder.
        uri: file, or a server such as http://host:19530.
        collection: name of the collection; it is created if there is none.
        token: token of a server, user:password.
        prune_others: also remove images that the gallery does not have.
        replace_all: drop the collection and load all images again.
        batch_size: images sent at a time.
        progress: called with the numbers of images that are done, and of all.

    Raises:
        UserError: no such server, `prune_others` or `replace_all` without such a collection, or one
            with embeddings of another model.
    """
    if not isinstance(gallery, SavedGallery):
        gallery = SavedGallery.open(gallery)
    # of a mistyped collection it would seem that people were removed
    changes = prune_others or replace_all
    client = MilvusStore.connect(uri, token, create=not changes)
    try:
        if changes or client.has_collection(collection):
            store = MilvusStore.open(client, collection)
            if replace_all:
                check_same_card(store.card, gallery.card, gallery.folder)
                client.drop_collection(collection)
                store = MilvusStore.create(client, collection, gallery.card)
        else:
            store = MilvusStore.create(client, collection, gallery.card)
        total, done = len(gallery), 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        progress(0, total)
        added = load_gallery(gallery, store, batch_size, tell)
        removed = prune(gallery, store) if prune_others else 0
        store.flush()
        return LoadResult(added, removed, len(store))
    finally:
        client.close()


@contextmanager
def opened(
    gallery: SavedGallery, uri: str, collection: str = "people", token: str = ""
) -> Iterator[StoreIndex]:
    """A Milvus collection over a gallery's rows, to search it in place of the folder.

    Args:
        gallery: gallery whose images are in the collection.
        uri: file, or a server such as http://host:19530.
        collection: name of the collection.
        token: token of a server, user:password.

    Raises:
        UserError: no such server or collection, or other images than the gallery's.
    """
    client = MilvusStore.connect(uri, token)
    try:
        options = ("--uri", uri, "--collection", collection)
        yield StoreIndex(gallery, MilvusStore.open(client, collection), load_options=options)
    finally:
        client.close()


@contextmanager
def temporary(gallery: SavedGallery) -> Iterator[StoreIndex]:
    """A gallery's images in a Milvus file that is removed afterwards."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "plan.db"
        client = MilvusStore.connect(str(file), create=True)
        try:
            store = MilvusStore.create(client, "plan", replace(gallery.card))
            load_gallery(gallery, store, BATCH)
            store.flush()
            yield StoreIndex(gallery, store, bytes_of(file))
        finally:
            client.close()


def bytes_of(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
