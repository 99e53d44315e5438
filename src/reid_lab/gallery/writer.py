"""Writing a saved gallery: it is created as a whole or not at all; appending rewrites nothing.

with create("people.gallery", Card(fingerprint(checkpoint), dim=128)) as writer:
    writer.append(embeddings, ids)
with extend(SavedGallery.open("people.gallery"), fingerprint(checkpoint)) as writer:
    writer.append(more, more_ids)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from reid_lab.errors import with_options
from reid_lab.files.folders import replacing_folder
from reid_lab.files.outputs import check_outside
from reid_lab.gallery.index import Approximate, build, fits
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.card import CARD, INDEX, Card, GalleryError
from reid_lab.gallery_format.rows import crc32
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.output import arguments
from reid_lab.retrieval.embeddings import Ids


class Writer(RowWriter[SavedGallery]):
    """Appends to a locked folder; see `create` and `extend`.

    Raises:
        GalleryError: the existing gallery is damaged.
    """

    def append(
        self,
        embeddings: Tensor | np.ndarray,
        ids: Ids,
        names: Mapping[int, str] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add rows (n, D) with their `ids`, all of them or none; see `append_rows`."""
        rows = (
            embeddings.detach().float().cpu().numpy()
            if isinstance(embeddings, Tensor)
            else np.array(embeddings, np.float32)
        )
        paths = [str(path) for path in ids.paths]
        self.append_rows(rows, ids.pids.numpy(), ids.camids.numpy(), paths, names, columns)

    def update_index(self) -> None:
        """Add new rows to the saved index; it is trained again when the rows have doubled."""
        gallery = self.gallery
        name = gallery.card.index
        if name == "flat" or not len(gallery) or not fits(name, len(gallery)):
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


@contextmanager
def create(folder: Path | str, card: Card, overwrite: bool = False) -> Iterator[Writer]:
    """A writer to a temporary folder, which is renamed to `folder` on success.

    Raises:
        GalleryError: `folder` exists and may not or cannot be overwritten, another process builds
            it, or nothing was appended.
    """
    with reserved(folder, overwrite) as start:
        yield start(card)


@contextmanager
def reserved(folder: Path | str, overwrite: bool = False) -> Iterator[Callable[[Card], Writer]]:
    """Keep other builders out of `folder`, before a network is loaded that the card needs.

    Yields a function that returns the writer of `create`, to be called once.

    Raises:
        GalleryError: see `create`.
    """
    folder = arguments.path("folder", folder)
    writers: list[Writer] = []

    def start(card: Card) -> Writer:
        card.write(beside)
        writers.append(Writer(SavedGallery.open(beside)))
        return writers[0]

    _check_target(folder, overwrite)
    with replacing_folder(folder) as beside:
        yield start
        if not writers or not len(writers[0].gallery):
            raise GalleryError(f"{folder} was not built: there are no images")
        writers[0].update_index()
        _check_target(folder, overwrite)  # it may have come meanwhile


@contextmanager
def extend(gallery: SavedGallery, fingerprint: str) -> Iterator[Writer]:
    """A writer that appends embeddings of the model with this fingerprint.

    Appended rows are kept even after an error; the index is updated at the end.

    Raises:
        GalleryError: another model, or another process is writing.
    """
    gallery.check_model(fingerprint)
    with locked(gallery.folder):
        writer = Writer(SavedGallery.open(gallery.folder))
        writer.gallery.check_model(fingerprint)  # it may have been replaced meanwhile
        _ = writer.gallery.checked  # a damaged gallery is not made larger
        yield writer
        writer.update_index()


def _check_target(folder: Path, overwrite: bool) -> None:
    check_outside(folder, GalleryError)
    if not folder.exists():
        return
    if not overwrite:
        there = f"{folder} exists already: add to it"
        raise with_options(
            GalleryError(f"{there}, overwrite it (overwrite=True), or choose another name"),
            f"{there}, --overwrite it, or choose another --out",
        )
    if not (folder / CARD).is_file():
        raise GalleryError(
            f"{folder} is not a saved gallery, it is not overwritten: choose another"
        )
    with locked(folder):  # no process is adding to the gallery that is replaced
        pass
