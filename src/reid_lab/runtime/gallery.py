"""Search and change a saved gallery with numpy: exact, without torch.

Every row is compared, whatever the gallery's index; `reid_lab.gallery` has faster searches.

gallery = Gallery.open("people.gallery", model.manifest)
gallery = gallery.add(embeddings, paths, people=names)  # on the disk when it returns
distances, rows = gallery.search(query, 10, where="site=north")
names = [gallery.name(gallery.pids[row]) for row in rows[0]]
gallery, removed = gallery.remove("pid='Ann Lee'")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.gallery_format.rows import GalleryRows
from reid_lab.gallery_format.writer import RowWriter, locked, remove_where
from reid_lab.openset.thresholds import accept_thresholds_at
from reid_lab.runtime.manifest import ExportError, Manifest
from reid_lab.vectors.rows import comparable_rows, unit_rows
from reid_lab.vectors.search import squared_distances

BLOCK = 1 << 16  # rows compared at a time


class Gallery(GalleryRows):
    """A gallery for the embeddings of an exported network."""

    @staticmethod
    def open(folder: Path | str, manifest: Manifest) -> Gallery:
        """Open the gallery in `folder`; the whole gallery is read and checked.

        Without a calibration, it takes the thresholds of the network.

        Raises:
            GalleryError: not a gallery, or an incomplete or damaged one.
            ExportError: the gallery is of another network, precision, preprocessing or exit.
        """
        gallery = Gallery.open_rows(folder)
        _check_model(gallery.folder, gallery.card, manifest)
        if not gallery.card.accept_thresholds:
            card = gallery.card
            found = accept_thresholds_at(manifest.accept_thresholds, card.exit, card.metric)
            gallery = replace(gallery, card=replace(card, accept_thresholds=found))
        _ = gallery.checked
        return gallery

    @property
    def pids(self) -> np.ndarray:
        """(N,) int64."""
        return self.numbers["pid"]

    @property
    def camids(self) -> np.ndarray:
        """(N,) int64."""
        return self.numbers["camid"]

    @property
    def exit(self) -> str:
        """The exit of the gallery's embeddings; for queries see `query_exit`."""
        return self.card.exit

    def search(self, query: np.ndarray, k: int, where: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Search queries (Q, D): distances (Q, k) float32 and rows (Q, k), nearest first.

        Distances are Euclidean or 1 - cosine, by the gallery's metric. Ties are broken by gallery
        index. There are fewer columns if the gallery has fewer rows.

        Args:
            query: (Q, D).
            k: number of matches per query.
            where: filter; only matching images are searched, such as `site=north and
                time>=2026-01-01`; see `select`.

        Raises:
            ExportError: embeddings of another dimension or that cannot be compared, or k < 1.
            UserError: an invalid filter, or one without matching images.
        """
        dim = self.card.dim
        if not len(self):
            raise ExportError(f"{self.folder} holds no images: add some first")
        if query.ndim != 2 or query.shape[1] != dim or k < 1:
            raise ExportError(
                f"query {query.shape} with k={k}: {self.folder} takes (Q, {dim}) with k >= 1"
            )
        if not comparable_rows(query).all():
            raise ExportError(
                "a query embedding is not finite, or only zeros: leave it out, or export "
                "a checkpoint that has not diverged"
            )
        cosine = self.card.metric == "cosine"
        wanted = query.astype(np.float64)
        if cosine:
            wanted = unit_rows(wanted)
        which = self.selected(where) if where.strip() else None
        count = len(self) if which is None else len(which)
        squared = np.empty((len(query), count))
        for start in range(0, count, BLOCK):
            part = slice(start, start + BLOCK)
            block = self.embeddings[part if which is None else which[part]]
            wide = block.astype(np.float64)
            squared[:, part] = squared_distances(wanted, unit_rows(wide) if cosine else wide)
        nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(squared, nearest, 1).clip(min=0)
        rows = nearest if which is None else which[nearest]
        return (found / 2 if cosine else np.sqrt(found)).astype(np.float32), rows

    def add(
        self,
        embeddings: np.ndarray,
        paths: Sequence[str],
        people: Sequence[str] | None = None,
        cameras: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> Gallery:
        """Add n images, all or none; they are on disk when this returns.

        An approximate index is not updated; the next `reid-lab gallery add` does it.

        Args:
            embeddings: (n, D) at the gallery's exit.
            paths: n names of images, which the gallery does not have yet. Images in a subfolder of
                the gallery's folder are deleted with their rows by `remove`.
            people: n names, any text; empty where the person is unknown.
            cameras: n names; empty where the camera is unknown.
            columns: metadata by name, n values each; empty text for missing values.

        Returns:
            The gallery with the new rows; this object is unchanged.

        Raises:
            GalleryError: another dimension, rows that cannot be compared, or an image that the
                gallery already has; the first such row is named. Or another process is writing.
        """
        blank = [""] * len(paths)
        people, cameras = (blank if given is None else given for given in (people, cameras))
        for what, given in (("people", people), ("cameras", cameras), ("paths", paths)):
            if isinstance(given, str):
                raise GalleryError(f"{what}={given!r} is one text: give a list, one for each row")
            if len(given) != len(paths):
                raise GalleryError(f"{len(given)} {what} for {len(paths)} paths: give one for each")
        with locked(self.folder):
            writer = RowWriter(self)
            writer.append_named(embeddings, list(paths), people, cameras, columns)
        return writer.gallery

    def remove(self, where: str) -> tuple[Gallery, list[str]]:
        """Remove the images that match a filter from disk.

        Args:
            where: such as `pid='Ann Lee'`; see `select`; `conditions.quoted` quotes a name.
                `path!=''` matches all images.

        Returns:
            The gallery without these images, and their paths, which may be empty.

        Raises:
            ConditionError: an empty or invalid filter.
            GalleryError: another process is writing.
        """
        with locked(self.folder):
            writer = RowWriter(self)
            gone = remove_where(writer, where)
        return writer.gallery, gone


def _check_model(folder: Path, card: Card, manifest: Manifest) -> None:
    if card.fingerprint != manifest.fingerprint:
        raise ExportError(
            f"{folder} holds embeddings of the model {card.fingerprint[:12]}, this export is "
            f"{manifest.fingerprint[:12]} ({manifest.precision}): embeddings of two models, or of "
            "two precisions, cannot be compared. Use the export that it belongs to, or build "
            "another gallery"
        )
    if card.image != manifest.preprocessing.image:
        raise ExportError(
            f"{folder} was built from images of {card.image}, this export takes "
            f"{manifest.preprocessing.image}: build another gallery"
        )
    shared = manifest.shared_exit
    if card.shared != (shared is not None) or shared not in (None, card.exit):
        ours, theirs = (
            f"with embeddings of {name!r}, at every exit" if name else "at the same exit"
            for name in (shared, card.exit if card.shared else None)
        )
        raise ExportError(
            f"{folder} (exit {card.exit!r}) is searched {theirs}, this export compares {ours}: "
            "build another gallery, or export again"
        )
    dim = manifest.exit(card.exit).dim
    if card.dim != dim:
        raise ExportError(
            f"{folder} has embeddings of {card.dim} dimensions, exit {card.exit!r} has "
            f"{dim}: build another gallery"
        )
