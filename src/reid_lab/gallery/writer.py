"""Writing a saved gallery: created whole or not at all, appended to without rewriting.

with create("people.gallery", Card(fingerprint(checkpoint), dim=128)) as writer:
    writer.append(embeddings, ids)
with extend(SavedGallery.open("people.gallery"), fingerprint(checkpoint)) as writer:
    writer.append(more, more_ids)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.files.atomic import SUFFIX
from reid_lab.files.folders import locked as locked_file
from reid_lab.files.folders import replacing_folder
from reid_lab.files.gallery_files import (
    CARD,
    INDEX,
    Card,
    GalleryError,
    append_rows,
    comparable,
    content_crc32,
    crc32,
)
from reid_lab.gallery.flat import as_rows
from reid_lab.gallery.index import Approximate, build
from reid_lab.gallery.store import SavedGallery
from reid_lab.retrieval.checks import check_paths, check_rows
from reid_lab.retrieval.embeddings import Ids

LOCK = ".lock"


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
        self._card = content_crc32(self.gallery)  # as `gallery.card`, with every CRC-32
        self._known = set(self.gallery.paths())

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def append(
        self,
        embeddings: Tensor | np.ndarray,
        ids: Ids,
        names: Mapping[int, str] | None = None,
    ) -> None:
        """Add rows (n, D) with their `ids`, all of them or none.

        If the process is killed, the gallery is as it was before, or has all of them.

        Args:
            embeddings: of the n images.
            ids: their pids, camids and paths.
            names: number -> name of people and cameras that are not numbers, see `number_of`.

        Raises:
            GalleryError: another dimension, rows that cannot be ranked, an image that the gallery
                already has; the first such row is named.
        """
        rows = self._checked(embeddings, ids)
        self._check_unchanged()
        names = {**self.gallery.names, **(names or {})}
        columns = ids.pids.numpy(), ids.camids.numpy(), map(str, ids.paths)
        opened = self.gallery.reopened(self._card, self.gallery.names)
        self._write(append_rows(opened, rows, *columns, names), names)
        self._known.update(map(str, ids.paths))

    def update_index(self) -> None:
        """Add new rows to the saved index; it is trained again when the rows have doubled."""
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
        card = replace(self._card, trained=index.trained, indexed=len(index))
        index.save(self.folder / card.index_file)
        crc = crc32((self.folder / card.index_file).read_bytes())
        self._write(replace(card, crc32={**card.crc32, INDEX: crc}), gallery.names)
        for old in self.folder.glob("index*.faiss"):
            if old.name != card.index_file:
                old.unlink(missing_ok=True)

    def _write(self, card: Card, names: Mapping[int, str]) -> None:
        """Write the card: from here on the rows that it counts belong to the gallery."""
        card.write(self.folder)
        self._card = card
        self.gallery = self.gallery.reopened(card, names)

    def _check_unchanged(self) -> None:
        """Raises:
        GalleryError: a process without the lock has written to the gallery.
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
    """A writer into a temporary folder, which is renamed to `folder` on success.

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
            raise GalleryError(f"{folder} was not built: there are no images")
        writer.update_index()
        _check_target(folder, overwrite)  # it may have come meanwhile
        if folder.exists():
            with locked(folder):  # no process is adding to the gallery that is replaced
                pass


@contextmanager
def extend(gallery: SavedGallery, fingerprint: str) -> Iterator[Writer]:
    """A writer that appends embeddings of the model with this fingerprint.

    Appended rows stay even after an error; the index is updated at the end.

    Raises:
        GalleryError: another model, or another process is writing.
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
        raise GalleryError(
            f"{folder} is not a saved gallery, it is not overwritten: choose another"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of `folder`. The lock ends with the process.

    Raises:
        GalleryError: another process is writing there.
    """
    message = f"{folder} is being written to by another process: wait until it has ended"
    with locked_file(folder / LOCK, GalleryError(message)):
        yield
