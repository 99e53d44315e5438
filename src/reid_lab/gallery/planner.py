"""Costs and losses of each index, measured on the user's own embeddings.

Measured, on this machine and gallery: bytes, the time to build and to search, recall, Rank-1 and
mAP. Extrapolated to another size: bytes (from the structure of the index) and the time of a query
(from the rows that it compares). Accuracies are not: they fall as a gallery grows.

An index returns a truncated list (see probe.py). Its loss is relative to the exact list truncated
at the same position; the loss by truncation is reported once, for all indexes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from reid_lab.errors import UserError
from reid_lab.gallery.index import INDEX_NAMES, Index, build, expected_bytes, rows_visited
from reid_lab.gallery.probe import Probe, mean_recall
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vector_index import temporary
from reid_lab.gallery_format.card import IndexName
from reid_lab.optional import load
from reid_lab.retrieval.metrics import Ranking


@dataclass(frozen=True)
class Estimate:
    """One index: measured on `count` images, and extrapolated to `size`.

    `ms_one` and `ms_batch`: milliseconds per query, alone and in one batch. `recall`: share of the
    first images of the exact list among its first images. Losses are fractions; None if no person
    is known.
    """

    index: IndexName | Literal["milvus"]
    bytes: int
    build_s: float
    ms_one: float
    ms_batch: float
    recall: float
    rank1_lost: float | None
    mAP_lost: float | None  # noqa: N815
    bytes_at_size: int
    ms_at_size: float


@dataclass(frozen=True)
class IndexPlan:
    """Comparison of all indexes.

    Args:
        count: number of gallery images; `size`: number to plan for.
        queries: number of queries; `depth`: length of a list; `recall_at`: depth of the recall;
            `threads`: threads of the machine.
        whole: exact ranking of the whole gallery; `cut`: with the list truncated at `depth`. None
            if no person is known.
        problems: index -> reason why it cannot be built.
    """

    count: int
    size: int
    queries: int
    depth: int
    recall_at: int
    threads: int
    whole: Ranking | None
    cut: Ranking | None
    estimates: Sequence[Estimate]
    problems: dict[IndexName, str] = field(default_factory=dict)


def plan(
    gallery: SavedGallery,
    queries: SavedGallery | None = None,
    size: int | None = None,
    most: int = 200,
    depth: int = 100,
    recall_at: int = 10,
    names: Sequence[IndexName] = INDEX_NAMES,
    progress: Callable[[str], None] = lambda name: None,
    milvus: bool = False,
) -> IndexPlan:
    """Build each index over `gallery` and search it for queries with known matches.

    Market-1501's protocol: a person's images from the query's own camera are hidden, as are
    junk (pid -1). Where pids are unknown, recall alone is measured.

    Args:
        queries: gallery of queries, of the same model; None: images of `gallery` are the queries,
            each hidden from itself.
        size: number of images to plan for; None: the size of the gallery.
        most: maximum number of queries, drawn with a fixed seed.
        milvus: also measure Milvus Lite; the gallery is loaded into a temporary file.

    Raises:
        UserError: embeddings of another model, no queries, or faiss is not installed.
    """
    faiss = load("faiss", "a plan of indexes")
    if queries is not None:
        gallery.check_same_space(queries)
    probe = Probe.draw(
        gallery, gallery if queries is None else queries, most, min(depth, len(gallery))
    )
    truth = probe.visible(_built("flat", gallery))
    cut = probe.score(truth) if probe.known else None
    estimates, problems = [], {}
    for name in names:
        progress(name)
        try:
            start = time.perf_counter()
            index = _built(name, gallery)
            build_s = time.perf_counter() - start
            how = (probe, truth, cut, recall_at, size or len(gallery))
            estimates.append(_measured(name, index, build_s, gallery.card.dim, *how))
        except UserError as error:
            problems[name] = str(error)
    if milvus:
        progress("milvus")
        start = time.perf_counter()
        with temporary(gallery) as index:
            build_s = time.perf_counter() - start
            how = (probe, truth, cut, recall_at, size or len(gallery))
            estimates.append(_measured("milvus", index, build_s, gallery.card.dim, *how))
    return IndexPlan(
        len(gallery),
        size or len(gallery),
        len(probe.query),
        probe.depth,
        recall_at,
        faiss.omp_get_max_threads(),
        probe.whole(gallery) if probe.known else None,
        cut,
        estimates,
        problems,
    )


def _built(name: IndexName, gallery: SavedGallery) -> Index:
    return build(name, gallery.checked, gallery.card.metric, gallery.unit_rows)


def _measured(
    name: IndexName | Literal["milvus"],
    index: Index,
    build_s: float,
    dim: int,
    probe: Probe,
    truth: Sequence[np.ndarray],
    cut: Ranking | None,
    recall_at: int,
    size: int,
) -> Estimate:
    found = probe.visible(index)
    ranking = probe.score(found)
    ms_one, ms_batch = probe.milliseconds(index)
    bytes_, bytes_at, ms_at = _extrapolated(index, ms_one, dim, size)
    return Estimate(
        index=name,
        bytes=bytes_,
        build_s=build_s,
        ms_one=ms_one,
        ms_batch=ms_batch,
        recall=mean_recall(truth, found, recall_at),
        rank1_lost=cut.rank1 - ranking.rank1 if cut else None,
        mAP_lost=cut.mAP - ranking.mAP if cut else None,
        bytes_at_size=bytes_at,
        ms_at_size=ms_at,
    )


def _extrapolated(index: Index, ms: float, dim: int, size: int) -> tuple[int, int, float]:
    """Bytes as measured; bytes and milliseconds per query for `size` images."""
    name, count, there = index.name, len(index), index.nbytes
    grown = expected_bytes(name, size, dim) / expected_bytes(name, count, dim)
    slower = rows_visited(name, size) / rows_visited(name, count)
    return there, round(there * grown), ms * slower
