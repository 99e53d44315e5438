"""Exact search: all rows are compared, block by block, and may be memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch  # noqa: F401 - before faiss: each has its own OpenMP
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.gallery_format.card import IndexMetric, IndexName
from reid_lab.vectors.rows import comparable_rows, unit_rows
from reid_lab.vectors.search import in_order

Found = tuple[np.ndarray, np.ndarray]  # distances (Q, k) float32, rows (Q, k) int64
BLOCK_BYTES = 1 << 26
ROUNDING = 2e-6  # error of a squared distance by matrix product, by squared length


class Flat:
    """Exact search block by block, without copies and with the memory of one block.

    A matrix product finds candidates, differences give their distances: these depend neither on the
    batch size nor on whether faiss is installed, and an image has distance 0 to itself.
    """

    trained = 0  # it learns nothing

    def __init__(self, rows: np.ndarray, metric: IndexMetric, unit_rows: bool = False) -> None:
        self.rows, self.metric, self.unit_rows = rows, metric, unit_rows
        self.name: IndexName = "flat"

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, query: Tensor | np.ndarray, k: int) -> Found:
        wanted = as_queries(query, self.metric, self.rows.shape[1])
        k = clipped_k(k, len(self))
        squared = np.empty((len(wanted), 0), np.float32)
        rows = np.empty((len(wanted), 0), np.int64)
        step = max(1024, BLOCK_BYTES // (4 * self.rows.shape[1]))
        for start in range(0, len(self), step):
            part = self.rows[start : start + step]
            block = as_rows(part, "euclidean" if self.unit_rows else self.metric)
            near, which = _nearest(wanted, block, min(k, len(block)))
            merged = np.hstack([squared, near]), np.hstack([rows, which + start])
            squared, rows = in_order(*merged, k)
        return own_unit(squared, self.metric), rows

    def add(self, embeddings: Tensor | np.ndarray) -> None:
        new = as_rows(embeddings, self.metric if self.unit_rows else "euclidean")
        self.rows = np.concatenate([self.rows, new.astype(self.rows.dtype)])

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)


@contextmanager
def no_more_threads_than(queries: int) -> Iterator[None]:
    """Limit faiss's threads: each takes whole queries, more than that would only wait."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, min(queries, threads)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def as_rows(
    embeddings: Tensor | np.ndarray, metric: IndexMetric, width: int | None = None
) -> np.ndarray:
    """(N, D) float32, of length 1 under cosine, zero-padded to `width`; a view if possible."""
    rows = np.ascontiguousarray(as_array(embeddings), np.float32)
    if metric == "cosine":
        rows = unit_rows(rows)
    if width is not None and width > rows.shape[1]:
        rows = np.pad(rows, ((0, 0), (0, width - rows.shape[1])))
    return rows


def _nearest(query: np.ndarray, block: np.ndarray, k: int, more: int = 8) -> Found:
    """Exact squared distances (Q, k) and rows of `block`; ties are broken by row.

    The matrix product rounds: it returns `more` candidates until the omitted rows are farther than
    the rounding error.
    """
    wide = min(k + more, len(block))
    reached, rows = _candidates(query, block, wide)
    squared, rows = in_order(_measured(query, block, rows), rows, k)
    if wide == len(block):
        return squared, rows
    lengths = np.square(query).sum(1)
    noise = ROUNDING * (lengths + np.square(np.sqrt(lengths) + np.sqrt(squared[:, -1])))
    unsure = np.flatnonzero(squared[:, -1] + noise >= reached[:, -1])
    if len(unsure):
        squared[unsure], rows[unsure] = _nearest(query[unsure], block, k, 4 * (k + more))
    return squared, rows


def _candidates(query: np.ndarray, block: np.ndarray, k: int) -> Found:
    """Ascending squared distances (Q, k) and rows of `block`, by matrix product."""
    try:
        import faiss
    except ImportError:  # only indexes need it; it is faster
        return _candidates_by_numpy(query, block, k)
    with no_more_threads_than(len(query)):
        return faiss.knn(query, block, k)


def _candidates_by_numpy(query: np.ndarray, block: np.ndarray, k: int) -> Found:
    step = max(1, BLOCK_BYTES // (4 * len(block)))
    lengths, parts = np.square(block).sum(1), []
    for start in range(0, max(1, len(query)), step):
        some = query[start : start + step]
        squared = np.square(some).sum(1, keepdims=True) + lengths - 2 * (some @ block.T)
        rows = np.argpartition(squared, k - 1, axis=1)[:, :k]
        parts.append(in_order(np.take_along_axis(squared, rows, 1), rows, k))
    squared, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
    return squared, rows


def _measured(query: np.ndarray, block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(Q, k) squared distances to rows (Q, k) of `block`, by difference."""
    step = max(1, BLOCK_BYTES // (4 * rows.shape[1] * query.shape[1]))
    parts = [
        np.square(query[s : s + step, None] - block[rows[s : s + step]]).sum(2)
        for s in range(0, len(query), step)
    ]
    return np.concatenate(parts) if parts else np.empty(rows.shape, np.float32)


def own_unit(squared: np.ndarray, metric: IndexMetric) -> np.ndarray:
    squared = np.maximum(squared, 0)
    return squared / 2 if metric == "cosine" else np.sqrt(squared)


def as_queries(
    query: Tensor | np.ndarray, metric: IndexMetric, dim: int, width: int | None = None
) -> np.ndarray:
    """Queries (Q, dim) as comparable rows; see `as_rows`.

    Raises:
        UserError: another dimension, NaN, infinity, or a length whose square float32 cannot hold.
    """
    given = as_array(query)
    check_width(given, dim)
    bad = np.flatnonzero(~comparable_rows(given))
    if len(bad):
        raise UserError(
            f"query {bad[0]} is not finite, only zeros, or of a length that float32 cannot square: "
            "are the weights finite?"
        )
    return as_rows(given, metric, width)


def as_array(embeddings: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(embeddings, (Tensor, np.ndarray)):
        how = "give a torch tensor or a NumPy array (N, D)"
        raise UserError(f"embeddings: {how}, not {type(embeddings).__name__}")
    array = embeddings.numpy(force=True) if isinstance(embeddings, Tensor) else embeddings
    if array.ndim != 2:
        raise UserError(f"embeddings must be (N, D), these are {array.shape}")
    return array


def check_width(rows: Tensor | np.ndarray, dim: int) -> None:
    if rows.shape[1] != dim:
        raise UserError(f"embeddings have {rows.shape[1]} dimensions, the index {dim}")


def clipped_k(k: int, count: int) -> int:
    """`k`, or `count` where there are fewer rows.

    Raises:
        UserError: `k` is not a whole number of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise UserError(f"k={k!r}: a whole number from 1 is expected")
    return min(k, count)
