"""Find the people of query images in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.checkpoint import read_accept_thresholds
from reid_lab.gallery.build import opened
from reid_lab.gallery.embedder import Embedder
from reid_lab.gallery.index import check_installed
from reid_lab.gallery.network import network_of
from reid_lab.gallery.queries import (
    Queries,
    Spread,
    embed_queries,
    list_queries,
    pooled,
    rows_of,
)
from reid_lab.gallery.results import SearchResult
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vector_index import StoreIndex
from reid_lab.gallery_format.embedding_files import EmbeddedImages
from reid_lab.openset.rates import check_rate
from reid_lab.openset.thresholds import AcceptThresholds, accept_thresholds_at, thresholds_of_kind
from reid_lab.openset.verdicts import GalleryVerdict, verdicts
from reid_lab.output import arguments
from reid_lab.output.arguments import check_whole, paths


@dataclass(frozen=True)
class GallerySearch:
    """The results of a search.

    Attributes:
        gallery: gallery that was searched.
        results: one for each query, in their order.
        broken: a message for each image that could not be read and was left out.
        accept: thresholds that the verdicts are based on; None without a false-accept rate.
    """

    gallery: SavedGallery
    results: list[SearchResult]
    broken: list[str]
    accept: AcceptThresholds | None = None

    def __repr__(self) -> str:
        counts = f"results={len(self.results)}, broken={len(self.broken)}"
        return f"GallerySearch(gallery={self.gallery!r}, {counts})"


def search_gallery(
    gallery: SavedGallery | Path | str,
    queries: Path | str | Sequence[Path | str],
    checkpoint: Path | str | None = None,
    *,
    boxes: Path | str | None = None,
    exit: str | None = None,
    pool: bool = False,
    top: int = 10,
    where: str = "",
    false_accept_rate: float | None = None,
    store: StoreIndex | None = None,
    batch_size: int = 64,
    device: str = "auto",
) -> GallerySearch:
    """Find the people of query images; `SavedGallery.search` takes embeddings.

    Args:
        gallery: gallery, or its folder.
        queries: images, folders with subfolders, CSV files with a column `path` (and `box`), or
            files of embeddings (`.npz`, `.parquet`); one, or several.
        checkpoint: checkpoint that the gallery was built from; files of embeddings need none.
        boxes: if there is one query image: a CSV file of the boxes in it.
        exit: exit of the queries; another one than the gallery's needs a network with a shared
            space. None takes the gallery's.
        pool: make each tracklet one query, the mean of its images.
        top: matches for each query.
        where: filter of the images that are searched, such as "site=north and time>=2026-01-01".
        false_accept_rate: also judge each query as known, unknown or ambiguous at this rate, or
            at the next lower one that has a threshold.
        store: a vector store with the gallery's images, which is searched in its place.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.

    Raises:
        UserError: no queries, a path that does not exist, an invalid filter, no checkpoint for
            images, no threshold for the rate or a lower one, no faiss for the index, or
            no such device.
        GalleryError: embeddings of another model, or an exit that cannot be compared.
    """
    check_whole("top", top)
    check_whole("batch_size", batch_size)
    if false_accept_rate is not None:
        check_rate(false_accept_rate)
    given = paths("queries", queries)
    box_file = arguments.path_or_none("boxes", boxes)
    gallery = opened(gallery)
    check_installed(gallery.card.index)
    gallery.selected(where)  # an invalid filter is an error before the network is read
    exit = gallery.query_exit(exit, false_accept_rate is not None)
    accept = None
    if false_accept_rate is not None:
        accept = thresholds_of_kind(_accept_thresholds(gallery, checkpoint), gallery.folder)
        accept.at(false_accept_rate)

    def load() -> Embedder:
        return network_of(gallery, checkpoint, exit, device)

    def check(read: EmbeddedImages, file: Path) -> np.ndarray:
        gallery.check_model(read.fingerprint)
        return rows_of(read, file, exit, gallery.card.metric)

    images, files = list_queries(given, box_file, gallery.card.pattern)
    asked = embed_queries(images, files, load, check, batch_size)
    asked = pooled(asked, gallery.card.metric) if pool else asked
    if not asked.images:
        return GallerySearch(gallery, [], asked.broken, accept)
    searched: SavedGallery | StoreIndex = gallery if store is None else store
    distances, rows = searched.search(asked.embeddings, top, where)
    judged: Sequence[GalleryVerdict | None] = [None] * len(asked.images)
    if accept is not None and false_accept_rate is not None:
        judged = verdicts(searched, asked.embeddings, accept, false_accept_rate, where)
    results = _results(gallery, asked, distances, rows, judged)
    return GallerySearch(gallery, results, asked.broken, accept)


def _accept_thresholds(
    gallery: SavedGallery, checkpoint: Path | str | None
) -> tuple[AcceptThresholds, ...]:
    """The thresholds of the gallery, or those of its checkpoint if it has none."""
    if gallery.card.accept_thresholds or checkpoint is None:
        return gallery.card.accept_thresholds
    key, found = read_accept_thresholds(Path(checkpoint))
    gallery.check_model(key)
    return accept_thresholds_at(found, gallery.card.exit, gallery.card.metric)


def _results(
    gallery: SavedGallery,
    queries: Queries,
    distances: np.ndarray,
    rows: np.ndarray,
    judged: Sequence[GalleryVerdict | None],
) -> list[SearchResult]:
    spreads: Sequence[Spread | None] = queries.spreads or [None] * len(queries.images)
    found = zip(queries.images, distances, rows, judged, spreads, strict=True)
    return [SearchResult.of(gallery, *one) for one in found]
