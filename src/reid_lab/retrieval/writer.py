"""Writing a saved gallery: made whole or not at all, appended to without rewriting.

with create("people.gallery", Card(fingerprint(checkpoint), dim=128)) as writer:
    writer.append(embeddings, ids)
with extend(SavedGallery.open("people.gallery"), fingerprint(checkpoint)) as writer:
    writer.append(more, more_ids)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.files.atomic import SUFFIX
from reid_lab.files.folders import replacing_folder
from reid_lab.files.gallery_files import (
    CARD,
    EMBEDDINGS,
    ID,
    IDS,
    INDEX,
    PATHS,
    Card,
    GalleryError,
    comparable,
    crc32,
)
from reid_lab.retrieval.checks import check_paths, check_rows
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.flat import as_rows
from reid_lab.retrieval.folder import locked, put
from reid_lab.retrieval.index import Approximate, build
from reid_lab.retrieval.store import SavedGallery


class Writer:
    """Appends to a folder that is locked for it; see `create` and `extend`.

    Raises:
        GalleryError: what is there is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for leftover in folder.glob(f".*{SUFFIX}"):  # of a killed one: the lock is ours
            leftover.unlink()
        self.gallery = SavedGallery.open(folder)
        content = self.gallery.checked, self.gallery.numbers, self.gallery.path_bytes
        self._crc32 = {
            name: self.gallery.card.crc32.get(name, crc32(part))
            for name, part in zip((EMBEDDINGS, IDS, PATHS), content, strict=True)
        }
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
        self._check_unchanged()
        parts = {
            EMBEDDINGS: (card.count * card.row_bytes, rows.tobytes()),
            IDS: (card.count * ID.itemsize, numbers.tobytes()),
            PATHS: (start, b"".join(paths)),
        }
        for name, (place, data) in parts.items():
            put(self.folder / name, place, data)
        crcs = {name: crc32(data, self._crc32[name]) for name, (_, data) in parts.items()}
        self._crc32 = crcs
        self._write(replace(card, count=card.count + len(rows), crc32={**card.crc32, **crcs}))
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
            built = build(card.index, gallery.checked, card.metric)
            assert isinstance(built, Approximate)
            index = built
        else:
            index.add(gallery.checked[len(index) :])
        card = replace(gallery.card, trained=index.trained, indexed=len(index))
        index.save(self.folder / card.index_file)
        crcs = {**self._crc32, INDEX: crc32((self.folder / card.index_file).read_bytes())}
        self._write(replace(card, crc32=crcs))
        for old in self.folder.glob("index*.faiss"):
            if old.name != card.index_file:
                old.unlink(missing_ok=True)

    def _write(self, card: Card) -> None:
        """From here on, what the card counts is there."""
        card.write(self.folder)
        self.gallery = self.gallery.reopened(card)

    def _check_unchanged(self) -> None:
        """Raises:
        GalleryError: somebody who does not know of the lock has written, too.
        """
        if Card.read(self.folder) != self.gallery.card:
            raise GalleryError(
                f"{self.folder} was changed by another process meanwhile: run the command again"
            )

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
        lost = np.flatnonzero(~comparable(rows, card.metric == "cosine"))
        if len(lost):
            raise GalleryError(
                f"row {lost[0]} ({ids.paths[lost[0]]}) is too long or too short to be kept as "
                f"{card.dtype}: build the gallery in float32, or with metric cosine"
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
    with replacing_folder(folder) as beside:
        card.write(beside)
        writer = Writer(beside)
        yield writer
        if not len(writer.gallery):
            raise GalleryError(f"{folder} was not made: there is nothing to put into it")
        writer.update_index()
        _check_target(folder, overwrite)  # it may have come meanwhile
        if folder.exists():
            with locked(folder):  # nobody is adding to what is replaced
                pass


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
        writer.gallery.check_model(fingerprint)  # it may have been replaced meanwhile
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
