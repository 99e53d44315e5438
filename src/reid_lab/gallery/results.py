"""The results of a search: the matches of each query image, with labels where known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.gallery.images import FOLDERS, Labelled
from reid_lab.gallery.queries import Spread
from reid_lab.gallery.store import SavedGallery
from reid_lab.openset.verdicts import GalleryVerdict


@dataclass(frozen=True)
class GalleryMatch:
    """A gallery image; `right` is None if either person is unknown."""

    image: Labelled
    distance: float
    right: bool | None


@dataclass(frozen=True)
class SearchResult:
    """A query and its matches, nearest first; verdict and spread are optional."""

    image: Labelled
    matches: list[GalleryMatch]
    verdict: GalleryVerdict | None = None
    spread: Spread | None = None

    @staticmethod
    def of(
        gallery: SavedGallery,
        image: Labelled,
        distances: np.ndarray,
        rows: np.ndarray,
        verdict: GalleryVerdict | None = None,
        spread: Spread | None = None,
    ) -> SearchResult:
        """The result of one query from distances (k,) and rows (k,), without padding (row -1)."""
        if image.pid in gallery.known_people:
            image = image._replace(person=gallery.name(image.pid))  # one spelling of a person
        elif gallery.card.pattern == FOLDERS:  # the folder of a query need not be a person's
            image = image._replace(person="", camera="")
        image = image._replace(camera=gallery.name(image.camid, "camid") or image.camera)
        found = zip(distances.tolist(), rows.tolist(), strict=True)
        matches = [_match(gallery, image, d, row) for d, row in found if row >= 0]
        return SearchResult(image, matches, verdict, spread)


def _match(gallery: SavedGallery, image: Labelled, distance: float, row: int) -> GalleryMatch:
    pid, camid = (int(gallery.numbers[row][column]) for column in ("pid", "camid"))
    path, values = Path(gallery.path(row)), gallery.values(row)
    names = gallery.name(pid), gallery.name(camid, "camid")
    found = Labelled(path, *names, values=values)
    known = image.pid > 0 and pid >= -1  # -1 and 0 are certainly other images
    return GalleryMatch(found, distance, image.pid == pid if known else None)
