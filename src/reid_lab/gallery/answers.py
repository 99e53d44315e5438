"""What a search found, with what is known about who is who."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.gallery.images import Named
from reid_lab.retrieval.store import SavedGallery


@dataclass(frozen=True)
class Match:
    """An image of the gallery; `right` is None where either person is unknown."""

    image: Named
    distance: float
    right: bool | None


@dataclass(frozen=True)
class SearchResult:
    """An image that was asked about, and its matches, nearest first."""

    image: Named
    matches: list[Match]

    @staticmethod
    def of(
        gallery: SavedGallery, image: Named, distances: np.ndarray, rows: np.ndarray
    ) -> SearchResult:
        """From one query's distances (k,) and rows (k,); places with row -1 are left out."""
        return SearchResult(
            image,
            [
                _match(gallery, image, distance, row)
                for distance, row in zip(distances.tolist(), rows.tolist(), strict=True)
                if row >= 0
            ],
        )


def _match(gallery: SavedGallery, image: Named, distance: float, row: int) -> Match:
    numbers = gallery.numbers[row]
    found = Named(Path(gallery.path(row)), int(numbers["pid"]), int(numbers["camid"]))
    known = image.pid > 0 and found.pid >= -1  # -1 and 0 are known to be nobody
    return Match(found, distance, image.pid == found.pid if known else None)
