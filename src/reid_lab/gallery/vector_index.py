"""A vector store in place of a gallery's index, and how commands open it."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from reid_lab.gallery.content_tables import images
from reid_lab.gallery.flat import Found
from reid_lab.gallery.milvus import MilvusStore
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vectors import VectorStore, check_same_card, load_gallery, prune
from reid_lab.gallery_format.card import GalleryError, IndexMetric, IndexName
from reid_lab.output.console import progress, stdout

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


def load(args: Namespace) -> int:
    """`reid-lab gallery load`: send to Milvus the images that it does not have yet.

    Raises:
        UserError: `--prune` or `--replace`, and no such collection.
    """
    gallery = SavedGallery.open(args.gallery)
    changes = args.prune or args.replace  # of a mistyped one it would seem that people were removed
    client = MilvusStore.connect(args.uri, args.token, create=not changes)
    try:
        if changes or client.has_collection(args.collection):
            store = MilvusStore.open(client, args.collection)
            if args.replace:
                check_same_card(store.card, gallery.card, gallery.folder)
                client.drop_collection(args.collection)
                store = MilvusStore.create(client, args.collection, gallery.card)
        else:
            store = MilvusStore.create(client, args.collection, gallery.card)
        with progress() as bar:
            task = bar.add_task("load", total=len(gallery))
            added = load_gallery(
                gallery, store, args.batch_size, lambda count: bar.advance(task, count)
            )
        removed = prune(gallery, store) if args.prune else 0
        store.flush()
        removals = f", {removed:,} removed" if args.prune else ""
        stdout.print(
            f"{args.uri}: {images(added)} added{removals}, {len(store):,} in {args.collection}"
        )
    finally:
        client.close()
    return 0


@contextmanager
def opened(args: Namespace, gallery: SavedGallery) -> Iterator[StoreIndex]:
    """The store that `--uri` names, over a gallery's rows."""
    client = MilvusStore.connect(args.uri, args.token)
    try:
        options = ("--uri", args.uri, "--collection", args.collection)
        yield StoreIndex(gallery, MilvusStore.open(client, args.collection), load_options=options)
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
