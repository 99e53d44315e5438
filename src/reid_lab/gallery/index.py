"""Nearest-neighbour indexes by name, exact and approximate."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import torch  # noqa: F401 - before faiss: each brings its own OpenMP
from torch import Tensor

from reid_lab.errors import UserError, last_line
from reid_lab.files.atomic import replacing
from reid_lab.gallery.flat import (
    BLOCK_BYTES,
    Flat,
    Found,
    as_array,
    as_queries,
    as_rows,
    check_width,
    clipped_k,
    no_more_threads_than,
    own_unit,
)
from reid_lab.gallery_format.card import IndexMetric, IndexName
from reid_lab.optional import load as load_package
from reid_lab.vectors.search import in_order

INDEX_NAMES: tuple[IndexName, ...] = get_args(IndexName)
POINTS = 39  # images a centroid is learned from: below, faiss warns that it is a guess
LINKS, BREADTH = 32, 64  # HNSW: links of a node, candidates that a search keeps
PART, PARTS = 4, 128  # a product code: dimensions that share a byte, bytes at most
LANES = 16  # the processor takes so many bytes at a time: other widths are five times slower
SEED = 0
_TYPES = {  # faiss's
    "ivf": "IndexIVFFlat",
    "hnsw": "IndexHNSWFlat",
    "ivf_pq": "IndexIVFPQ",
    "sq8": "IndexScalarQuantizer",
}


def check_installed(name: IndexName) -> Any:
    """The module faiss, which every index but `flat` needs; None for `flat`.

    Raises:
        MissingPackageError: it cannot be imported.
    """
    return load_package("faiss", f"index {name}") if name != "flat" else None


class Index(Protocol):
    """N searchable rows; `search` returns distances in the metric's unit, as `Space` does."""

    name: IndexName
    metric: IndexMetric
    trained: int  # rows that it has learned from; an exact one learns nothing

    def __len__(self) -> int: ...

    def search(self, query: Tensor | np.ndarray, k: int) -> Found:
        """The `k` nearest rows of each query (Q, D): distances (Q, k) and rows, nearest first.

        There are fewer columns if there are fewer rows. Ties are broken by row. Padding has row -1
        and an infinite distance.
        """

    def add(self, embeddings: Tensor | np.ndarray) -> None:
        """Append rows (n, D)."""

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""


@dataclass(frozen=True)
class IndexSizes:
    """The structure of an index of `count` rows of `dim` numbers.

    A search visits `probes` of `cells`; a product code has `parts` of `bits` each.
    """

    cells: int
    probes: int
    parts: int
    bits: int

    @staticmethod
    def of(count: int, dim: int) -> IndexSizes:
        """Cells grow with the square root of the gallery; 1/16, at least 8, are searched."""
        cells = max(1, min(round(count**0.5), count // POINTS))
        bits = min(8, max(count // POINTS, 1).bit_length() - 1)
        return IndexSizes(cells, min(cells, max(8, cells // 16)), min(-(-dim // PART), PARTS), bits)


def build(
    name: IndexName,
    embeddings: Tensor | np.ndarray,
    metric: IndexMetric = "euclidean",
    unit_rows: bool = False,
) -> Index:
    """Build an index of `embeddings` (N, D), float32 or float16, with their row numbers.

    `flat` is exact and uses `embeddings` themselves, memory-mapped or not. `ivf` searches the
    nearest cells, `hnsw` walks a graph, `sq8` keeps one byte per dimension, `ivf_pq` searches cells
    that keep a byte for four dimensions, 128 bytes at most.

    Args:
        unit_rows: the rows have length 1 already, so that cosine need not scale them.

    Raises:
        UserError: unknown name, no rows, too few rows for a product code, or no faiss for an
            approximate index.
    """
    if name not in INDEX_NAMES:
        raise UserError(f"unknown index {name!r}; available: {', '.join(INDEX_NAMES)}")
    rows = as_array(embeddings)
    if not len(rows):
        raise UserError("there are no embeddings to index")
    if name == "flat":
        return Flat(rows, metric, unit_rows)
    check_count(name, len(rows))
    made = _empty(name, *rows.shape)
    made.train(as_rows(_sample(rows), metric, made.d))
    index = Approximate(name, metric, made, rows.shape[1], len(rows))
    index.add(rows)
    return index


def fits(name: IndexName, count: int) -> bool:
    """Whether `count` images are enough to train an index; product codes need a minimum."""
    return name != "ivf_pq" or count >= POINTS << 4


def check_count(name: IndexName, count: int) -> None:
    """Check that `count` images are enough to train an index.

    Raises:
        UserError: too few for a product code.
    """
    if not fits(name, count):
        raise UserError(
            f"index ivf_pq learns its codes from at least {POINTS << 4} images and there are "
            f"{count}: use flat, which is exact and fast at this size, or sq8"
        )


class Approximate:
    """A trained faiss index; rows that are added later do not train it again."""

    def __init__(
        self, name: IndexName, metric: IndexMetric, made: Any, dim: int, trained: int
    ) -> None:
        self.name, self.metric, self.trained = name, metric, trained
        self._made, self._dim = made, dim

    def __len__(self) -> int:
        return int(self._made.ntotal)

    def search(self, query: Tensor | np.ndarray, k: int) -> Found:
        wanted = as_queries(query, self.metric, self._dim, self._made.d)
        k = clipped_k(k, len(self))
        if self.name == "hnsw":
            self._made.hnsw.efSearch = max(BREADTH, 2 * k)
        with no_more_threads_than(len(wanted)):
            squared, rows = self._made.search(wanted, k)
        if rows.size and rows.max() >= len(self):
            raise UserError(f"the index names row {rows.max()} of {len(self)}: build it again")
        squared[rows < 0] = np.inf
        squared, rows = in_order(squared, rows, k)
        return own_unit(squared, self.metric), rows

    def add(self, embeddings: Tensor | np.ndarray) -> None:
        check_width(embeddings, self._dim)
        step = max(1024, BLOCK_BYTES // (4 * self._made.d))
        for start in range(0, len(embeddings), step):
            part = embeddings[start : start + step]
            self._made.add(as_rows(part, self.metric, self._made.d))

    @property
    def nbytes(self) -> int:
        return int(check_installed(self.name).serialize_index(self._made).nbytes)

    def save(self, path: Path) -> None:
        """Save atomically.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(path) as beside:
            try:
                check_installed(self.name).write_index(self._made, str(beside))
            except RuntimeError as error:  # faiss raises nothing else
                full = os.strerror(errno.ENOSPC) in str(error)
                raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error

    @staticmethod
    def load(
        path: Path, name: IndexName, metric: IndexMetric, dim: int, trained: int
    ) -> Approximate:
        """Read what `save` has written.

        Raises:
            UserError: the file is not such an index, or faiss is not installed.
        """
        faiss = check_installed(name)
        try:
            made = faiss.read_index(str(path))
        except (RuntimeError, MemoryError) as error:  # a damaged size may take any memory
            made, reason = None, last_line(error)
        else:
            reason = _unlike(name, made, dim)
        if reason:
            raise UserError(
                f"{path} is not an index of this gallery ({reason}): remove it, and it is built "
                "again from the embeddings"
            )
        return Approximate(name, metric, made, dim, trained)


def _unlike(name: IndexName, made: Any, dim: int) -> str:
    """How an index differs from what `build` makes; empty if it does not."""
    faiss = check_installed(name)
    kind, wanted = type(made).__name__, _TYPES[name]
    if kind != wanted:
        return f"{kind} instead of {wanted}"
    if made.d != _width(name, dim):
        return f"{made.d} dimensions instead of {_width(name, dim)}"
    if made.metric_type != faiss.METRIC_L2 or not made.is_trained:
        return "another metric, or not trained"
    return ""


def expected_bytes(name: IndexName, count: int, dim: int) -> int:
    """Approximate size in bytes of an index of `count` rows."""
    sizes = IndexSizes.of(count, dim)
    width = _width(name, dim)
    codebooks = 4 * (sizes.cells * width + (1 << sizes.bits) * width)
    return {
        "flat": 4 * count * dim,
        "ivf": count * (4 * dim + 8) + 4 * sizes.cells * dim,
        "hnsw": count * (4 * dim + 8 * LINKS + 4 * LINKS // (LINKS - 1) + 12),
        "ivf_pq": count * (-(-sizes.parts * sizes.bits // 8) + 8) + codebooks,
        "sq8": (count + 8) * width,
    }[name]


def rows_visited(name: IndexName, count: int) -> float:
    """Approximate number of rows that a search compares, which its time grows with."""
    sizes = IndexSizes.of(count, PART)
    if name in ("ivf", "ivf_pq"):
        return sizes.cells + count * sizes.probes / sizes.cells
    return LINKS * np.log2(count + 1) if name == "hnsw" else count


def _empty(name: IndexName, count: int, dim: int) -> Any:
    faiss, sizes = check_installed(name), IndexSizes.of(count, dim)
    made: Any
    if name == "hnsw":
        made = faiss.IndexHNSWFlat(dim, LINKS)
        made.hnsw.efConstruction = 100
        return made
    width = _width(name, dim)
    if name == "sq8":
        return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit)
    cells = faiss.IndexFlatL2(width)
    if name == "ivf":
        made = faiss.IndexIVFFlat(cells, width, sizes.cells)
    else:
        made = faiss.IndexIVFPQ(cells, width, sizes.cells, sizes.parts, sizes.bits)
        made.pq.cp.niter = 10  # learning the codes is nearly all of the building
        made.pq.cp.max_points_per_centroid = POINTS
    made.nprobe = sizes.probes
    return made


def _width(name: IndexName, dim: int) -> int:
    """Dimensions with zero padding to whole bytes and codes, which does not change distances."""
    parts = IndexSizes.of(1, dim).parts
    step = {"sq8": LANES, "ivf_pq": parts}.get(name, 1)
    return -(-dim // step) * step


def _sample(rows: np.ndarray) -> np.ndarray:
    """A fixed sample of (N, D) to train cells and codes on."""
    enough = max(256 * max(IndexSizes.of(*rows.shape).cells, 256), 1)  # faiss uses no more
    if len(rows) <= enough:
        return rows
    return rows[np.sort(np.random.default_rng(SEED).choice(len(rows), enough, replace=False))]
