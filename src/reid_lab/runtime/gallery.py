"""A gallery that `python -m reid_lab.gallery` saved, searched by numpy: exact, on one machine.

Whatever index it has, every row is compared; `reid_lab.retrieval` has the faster searches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.files.gallery_files import (
    EMBEDDINGS,
    Card,
    all_paths,
    check_embeddings,
    comparable,
    mapped,
    read_ids,
)
from reid_lab.runtime.manifest import ExportError, Manifest

BLOCK = 1 << 16  # rows compared at a time


@dataclass(frozen=True, eq=False)
class Gallery:
    """N images: `embeddings` (N, D), `pids` and `camids` (N,), `paths`; and what made them."""

    folder: Path
    card: Card
    embeddings: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    paths: list[str]

    @staticmethod
    def open(folder: Path | str, manifest: Manifest) -> Gallery:
        """The gallery in `folder`, if the network of `manifest` may search it. All is checked.

        Raises:
            GalleryError: no gallery, or one that is incomplete or damaged.
            ExportError: it is of another network, precision, preprocessing or exit.
        """
        folder = Path(folder)
        card = Card.read(folder)
        _check_model(folder, card, manifest)
        rows = mapped(folder / EMBEDDINGS, card.row_dtype, card.count, card.dim)
        numbers, paths = read_ids(folder, card)
        check_embeddings(folder / EMBEDDINGS, card, rows)
        found = all_paths(paths, numbers)
        return Gallery(folder, card, rows, numbers["pid"], numbers["camid"], found)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def exit(self) -> str:
        """The exit whose embeddings it holds: ask with this one's."""
        return self.card.exit

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries (Q, D) -> distances (Q, k) float32 and rows (Q, k), nearest first.

        In the gallery's metric: Euclidean length, or 1 - cosine. Equal distances keep the
        gallery's order. Fewer columns where there are fewer rows.

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
        asked = _unit(query) if cosine else query.astype(np.float64)
        squared = np.empty((len(query), len(self)))
        for start in range(0, len(self), BLOCK):
            squared[:, start : start + BLOCK] = self._squared(asked, start, cosine)
        rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(squared, rows, 1).clip(min=0)
        return (found / 2 if cosine else np.sqrt(found)).astype(np.float32), rows

    def _squared(self, asked: np.ndarray, start: int, cosine: bool) -> np.ndarray:
        """(Q, n) squared distances to a block of rows, in float64: nothing to round away."""
        block = self.embeddings[start : start + BLOCK]
        rows = _unit(block) if cosine else block.astype(np.float64)
        products = asked @ rows.T
        result: np.ndarray = (
            np.square(asked).sum(1)[:, None] + np.square(rows).sum(1) - 2 * products
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
