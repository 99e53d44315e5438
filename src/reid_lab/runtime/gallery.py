"""Search a saved gallery with numpy: exact, without torch.

Every row is compared, with any index of the gallery; `reid_lab.gallery` has faster searches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reid_lab.files.gallery_files import Card, GalleryRows, comparable
from reid_lab.runtime.manifest import ExportError, Manifest

BLOCK = 1 << 16  # rows compared at a time


class Gallery(GalleryRows):
    """A gallery for the embeddings of an exported network."""

    @staticmethod
    def open(folder: Path | str, manifest: Manifest) -> Gallery:
        """Open the gallery in `folder`; all of it is read and checked.

        Raises:
            GalleryError: no gallery, or one that is incomplete or damaged.
            ExportError: it is of another network, precision, preprocessing or exit.
        """
        gallery = Gallery.open_rows(folder)
        _check_model(gallery.folder, gallery.card, manifest)
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
        """The exit of its embeddings, at which queries are embedded."""
        return self.card.exit

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Search queries (Q, D): distances (Q, k) float32 and rows (Q, k), nearest first.

        Distances are Euclidean or 1 - cosine, by the gallery's metric. Ties are broken by gallery
        index. There are fewer columns if the gallery has fewer rows.

        Raises:
            ExportError: embeddings of another dimension or that cannot be compared, or k < 1.
        """
        dim = self.card.dim
        if not len(self):
            raise ExportError(f"{self.folder} holds no images: add some first")
        if query.ndim != 2 or query.shape[1] != dim or k < 1:
            raise ExportError(
                f"query {query.shape} with k={k}: {self.folder} takes (Q, {dim}) with k >= 1"
            )
        if not comparable(query).all():
            raise ExportError("a query is not finite, or only zeros: export again")
        cosine = self.card.metric == "cosine"
        wanted = _unit(query) if cosine else query.astype(np.float64)
        squared = np.empty((len(query), len(self)))
        for start in range(0, len(self), BLOCK):
            squared[:, start : start + BLOCK] = self._squared(wanted, start, cosine)
        rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(squared, rows, 1).clip(min=0)
        return (found / 2 if cosine else np.sqrt(found)).astype(np.float32), rows

    def _squared(self, wanted: np.ndarray, start: int, cosine: bool) -> np.ndarray:
        """(Q, n) squared distances to a block of rows, in float64."""
        block = self.embeddings[start : start + BLOCK]
        rows = _unit(block) if cosine else block.astype(np.float64)
        products = wanted @ rows.T
        result: np.ndarray = (
            np.square(wanted).sum(1)[:, None] + np.square(rows).sum(1) - 2 * products
        )
        return result


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
    dim = manifest.exit(card.exit).dim
    if card.dim != dim:
        raise ExportError(
            f"{folder} has embeddings of {card.dim} dimensions, exit {card.exit!r} has "
            f"{dim}: build another gallery"
        )


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    result: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return result
