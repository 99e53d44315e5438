"""Writing a saved gallery: made whole or not at all, appended to without rewriting.

with create("people.gallery", Card(fingerprint(checkpoint), dim=128)) as writer:
    writer.append(embeddings, ids)
with extend(SavedGallery.open("people.gallery"), fingerprint(checkpoint)) as writer:
    writer.append(more, more_ids)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.retrieval.checks import check_paths, check_rows
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.flat import as_rows
from reid_lab.retrieval.folder import (
    CARD,
    EMBEDDINGS,
    ID,
    IDS,
    INDEX,
    PATHS,
    Card,
    GalleryError,
    locked,
    put,
)
from reid_lab.retrieval.index import Approximate, build
from reid_lab.retrieval.store import SavedGallery


class Writer:
    """Appends to a folder that is locked for it; see `create` and `extend`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gallery = SavedGallery.open(folder)
        self._known = set(self.gallery.paths())

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def append(self, embeddings: Tensor | np.ndarray, ids: Ids) -> None:
        """Rows (n, D) with their `ids` behind the others, all of them or none.

        Killed at any time it leaves the gallery as it was before, or with all of them.

        Raises:
            GalleryError: another dimension, rows that cannot be ranked, an image that is there
                already; the first such row is named.
        """
        card, old = self.gallery.card, self.gallery
        rows = self._checked(embeddings, ids)
        paths = [os.fsencode(str(path)) for path in ids.paths]
        start = int(old.numbers["end"][-1]) if len(old) else 0
        numbers = np.empty(len(paths), ID)
        numbers["end"] = start + np.cumsum([len(path) for path in paths], dtype=np.int64)
        numbers["pid"], numbers["camid"] = ids.pids.numpy(), ids.camids.numpy()
        put(self.folder / EMBEDDINGS, card.count * card.row_bytes, rows.tobytes())
        put(self.folder / IDS, card.count * ID.itemsize, numbers.tobytes())
        put(self.folder / PATHS, start, b"".join(paths))
        replace(card, count=card.count + len(rows)).write(self.folder)  # now they are there
        self.gallery = SavedGallery.open(self.folder)
        self._known.update(map(str, ids.paths))

    def update_index(self) -> None:
        """Bring the saved index up to the rows; it learns anew when they have doubled."""
        gallery = self.gallery
        if gallery.card.index == "flat" or not len(gallery):
            return
        index = gallery.saved_index()
        if index is not None and len(index) == len(gallery):
            return
        if index is None or len(gallery) >= 2 * index.trained:
            card = gallery.card
            built = build(card.index, gallery.embeddings, card.metric)
            assert isinstance(built, Approximate)
            index = built
        else:
            index.add(gallery.embeddings[len(index) :])
        index.save(self.folder / INDEX)
        replace(gallery.card, trained=index.trained).write(self.folder)
        self.gallery = SavedGallery.open(self.folder)

    def _checked(self, embeddings: Tensor | np.ndarray, ids: Ids) -> np.ndarray:
        """The rows (n, D) as they are stored."""
        card = self.gallery.card
        if isinstance(embeddings, Tensor):
            given = embeddings.detach().float().cpu()
        else:
            given = torch.from_numpy(np.array(embeddings, np.float32))
        if given.ndim != 2 or given.shape[1] != card.dim or len(given) != len(ids.paths):
            raise GalleryError(
                f"{self.folder} takes embeddings (n, {card.dim}) with n paths, these are "
                f"{tuple(given.shape)} with {len(ids.paths)}"
            )
        self._check_ids(ids.paths)
        try:
            check_rows("gallery", given, ids.paths)
        except ValueError as error:
            raise GalleryError(str(error)) from error
        with np.errstate(over="ignore"):
            rows = as_rows(given, card.metric).astype(card.row_dtype)
        lost = np.flatnonzero(~np.isfinite(rows).all(1) | ~rows.any(1))
        if len(lost):
            raise GalleryError(
                f"row {lost[0]} ({ids.paths[lost[0]]}) cannot be kept as {card.dtype}: build the "
                "gallery in float32, or with metric cosine"
            )
        return rows

    def _check_ids(self, paths: np.ndarray) -> None:
        try:
            check_paths("gallery", np.asarray(paths, dtype=object))
        except ValueError as error:
            raise GalleryError(str(error)) from error
        for row, path in enumerate(map(str, paths)):
            if path in self._known:
                raise GalleryError(
                    f"row {row} is an image that {self.folder} has already ({path}): leave it out"
                )


@contextmanager
def create(folder: Path | str, card: Card, overwrite: bool = False) -> Iterator[Writer]:
    """A writer into a folder beside `folder`, which takes its name when all has gone well.

    Raises:
        GalleryError: `folder` is there and may not or cannot be overwritten, another process
            builds it, or nothing was appended.
    """
    folder = Path(folder)
    _check_target(folder, overwrite)
    beside = folder.absolute().with_name(f".{folder.name}.building")
    beside.mkdir(parents=True, exist_ok=True)
    with locked(beside):
        try:
            for leftover in beside.glob("[!.]*"):
                leftover.unlink()
            card.write(beside)
            writer = Writer(beside)
            yield writer
            if not len(writer.gallery):
                raise GalleryError(f"{folder} was not made: there is nothing to put into it")
            writer.update_index()
            _take_place(beside, folder, overwrite)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def extend(gallery: SavedGallery, fingerprint: str) -> Iterator[Writer]:
    """A writer that appends embeddings of the model with this fingerprint.

    What was appended stays, whatever happens next; the index is brought up at the end.

    Raises:
        GalleryError: it is another model, or another process writes.
    """
    gallery.check_model(fingerprint)
    with locked(gallery.folder):
        writer = Writer(gallery.folder)
        yield writer
        writer.update_index()


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not overwrite:
        raise GalleryError(
            f"{folder} exists already: add to it, overwrite it, or choose another name"
        )
    if not (folder / CARD).is_file():
        raise GalleryError(f"{folder} is no saved gallery and is not overwritten: choose another")


def _take_place(beside: Path, folder: Path, overwrite: bool) -> None:
    _check_target(folder, overwrite)  # it may have come meanwhile
    if not folder.exists():
        beside.rename(folder)
        return
    with locked(folder):
        old = folder.absolute().with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old)
