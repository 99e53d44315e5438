"""Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), memory linear in N.

The published algorithm fills N x N matrices that are almost all zeros. Here the encoding of each
image is a list of its non-zeros, found from exact neighbours, and the Jaccard distance walks over
the entries that two lists share. `memory` bounds the blocks of distances and the work on them; the
matrix of all embeddings and these lists come on top (about 5 KB per image with the paper's k1 and
k2, as measured by tests/retrieval/test_memory.py).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_lab.output.arguments import check_number, check_whole
from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan, tile_rows
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.neighbours import all_neighbours, check_tiles, least_for_tiles
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.ranking import Reranker, rank_blocks, rank_work
from reid_lab.retrieval.space import Space
from reid_lab.types import Count, Fraction

if TYPE_CHECKING:
    from scipy import sparse

Indices = NDArray[np.int64]
Piece = tuple[slice, "sparse.csr_array"]  # rows of a block, and their encodings
Alike = tuple[slice, NDArray[np.float32]]  # the same rows, and their Jaccard similarity (q, G)
PIECE = 1 << 19  # numbers of neighbours that are compared at a time
PAIRS = 100_000  # shared non-zeros that a thread walks over at a time: they stay in its cache
PAIR = 64  # bytes for each of them
CELL = 16  # bytes for each distance that is changed by them


@dataclass(frozen=True)
class KReciprocal(Reranker):
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017).

    Args:
        k1: neighbours among which reciprocal ones are looked for.
        k2: neighbours whose encodings are averaged.
        weight: lambda, the share of the original distance.
    """

    k1: Count = 20
    k2: Count = 6
    weight: Fraction = 0.3

    name = "k_reciprocal"

    def __post_init__(self) -> None:
        check_whole("k1", self.k1)
        check_whole("k2", self.k2)
        check_number("weight", self.weight, 0, 1)

    def rank_space(
        self,
        space: Space,
        query_ids: Ids,
        gallery_ids: Ids,
        hidden: Hidden,
        memory: float,
        processes: Processes,
    ) -> Ranking:
        work = rank_work(query_ids, gallery_ids, space.gallery.is_cuda)
        gallery, both = len(gallery_ids), len(gallery_ids) + len(query_ids)
        spare = self._plan(gallery, both, memory, max(work, self._work(gallery))).spare
        mine = processes.share(len(space.query), tile_rows(len(gallery_ids)))
        blocks = self.blocks(space, memory, work, processes)
        found = rank_blocks(blocks, query_ids.part(mine), gallery_ids, hidden, spare)
        return Ranking.concatenate(processes.gather(found))

    def blocks(
        self,
        space: Space,
        memory: float = GIGABYTE,
        work: float = 0,
        processes: Processes = ALONE,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, re-ranked distances (len(rows), G)), 0 to 1; each overwrites the last.

        Rows count from the first query of this process's share. The original distance is squared
        and each row is divided by its largest value over queries and gallery, as in the authors'
        code.
        """
        space.check_euclidean("k-reciprocal re-ranking")
        gallery = len(space.gallery)
        work = max(work, self._work(gallery))
        both = gallery + len(space.query)
        # the ranking's work waits while a block is made
        spare = self._plan(gallery, both, memory, work).spare
        threads = max(1, min(torch.get_num_threads(), int(spare / self._work(gallery))))
        width = max(1, int((spare / threads - PAIR * PAIRS) / (CELL * gallery)))
        if not len(space.query):
            return
        joined, queries = space.joined(), len(space.query)
        nearest, farthest = all_neighbours(joined, self._count(both), memory, processes)
        near = nearest.cpu().numpy()
        farthest = torch.where(farthest > 0, farthest, 1.0)  # all alike: any
        encoding = self.encode(joined, near, farthest)
        by_gallery = self._expanded(encoding, near, slice(queries, None)).tocsc()
        share = processes.share(queries, tile_rows(gallery))
        norms, mine = space.query_norms()[:, None], space.part(share)
        with ThreadPoolExecutor(threads) as pool:
            for rows, distances in mine.blocks(memory, work):
                own = slice(share.start + rows.start, share.start + rows.stop)
                distances.add_(norms[own]).clamp_(min=0)
                distances.mul_(self.weight / farthest[own, None]).add_(1 - self.weight)
                parts = split_rows(self._expanded(encoding, near, own), by_gallery, width)
                jaccard = partial(_jaccard, by_gallery=by_gallery)
                for part, alike in map_ahead(pool, jaccard, parts, threads):
                    distances[part].sub_(
                        torch.from_numpy(alike).to(distances), alpha=1 - self.weight
                    )
                yield rows, distances

    def check_memory(self, query_ids: Ids, gallery_ids: Ids, dim: int, memory: float) -> None:
        """Check that `memory` is enough for the neighbours of all images and for the ranking."""
        gallery = len(gallery_ids)
        both = len(query_ids) + gallery
        work = max(rank_work(query_ids, gallery_ids), self._work(gallery))
        self._plan(gallery, both, memory, work)

    def _plan(self, gallery: int, both: int, memory: float, work: float) -> BlockPlan:
        """Plan the blocks of distances to the gallery, after the search for all neighbours."""
        k = self._count(both)
        if least_for_tiles(both, k) > BlockPlan.least(gallery, work):
            check_tiles(both, k, memory)
        return BlockPlan.of(gallery, memory, work)

    def _count(self, images: int) -> int:
        return min(max(self.k1 + 1, self.k2), images)

    def _work(self, gallery: int) -> float:
        """The least bytes beside the distances: a thread's pairs and one row."""
        return PAIR * PAIRS + CELL * gallery

    def encode(self, space: Space, near: Indices, farthest: Tensor) -> sparse.csr_array:
        """(N, N) sparse weights of each image's k-reciprocal neighbours, equations 4 to 7."""
        from scipy import sparse

        far = farthest.cpu().numpy()
        columns, weights, counts = [], [], []
        norms = space.query_norms().double().cpu().numpy()
        for images, row, column in reciprocal_pairs(near, self.k1):
            starts = np.searchsorted(row, np.arange(images.start, images.stop + 1))
            apart = _pair_distances(space.centred_query, norms, images, starts, column)
            weight = np.exp(-apart / far[row])
            row -= images.start
            total = np.bincount(row, weight, images.stop - images.start)
            columns.append(column.astype(np.int32))
            weights.append((weight / total[row]).astype(np.float32))
            counts.append(np.diff(starts))
        ends = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        parts = np.concatenate(weights), np.concatenate(columns), ends
        return sparse.csr_array(parts, shape=(len(near), len(near)))

    def _expanded(self, encoding: sparse.csr_array, near: Indices, rows: slice) -> sparse.csr_array:
        """Local query expansion, equation 8: the mean encoding of each image's `k2` nearest."""
        from scipy import sparse

        if self.k2 == 1:
            return encoding[rows]
        nearest = near[rows, : self.k2]
        share = np.full(nearest.size, 1 / nearest.shape[1], dtype=np.float32)
        starts = np.arange(0, nearest.size + 1, nearest.shape[1])
        shape = (len(nearest), encoding.shape[0])
        return sparse.csr_array((share, nearest.ravel(), starts), shape=shape) @ encoding


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Piece], Alike], items: Iterable[Piece], ahead: int
) -> Iterator[Alike]:
    """`pool.map` with at most `ahead` results waiting."""
    waiting: deque[Future[Alike]] = deque()
    for item in items:
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
        waiting.append(pool.submit(function, item))
    while waiting:
        yield waiting.popleft().result()


def reciprocal_pairs(near: Indices, k1: int) -> Iterator[tuple[slice, Indices, Indices]]:
    """Yield (pairs,) images and expanded k-reciprocal neighbours, sorted, some images at a time.

    Equations 2 and 3: the half-sized set of a neighbour is added if more than two thirds of it are
    in the set already.
    """
    half = int(np.around(k1 / 2))
    full_set, full_is = _reciprocal(near[:, : k1 + 1])
    half_set, half_is = _reciprocal(near[:, : half + 1])
    half_size = half_is.sum(1)
    step = max(1, PIECE // (full_set.shape[1] * half_set.shape[1]))
    for start in range(0, len(near), step):
        mine, is_mine = full_set[start : start + step], full_is[start : start + step]
        own = np.where(is_mine, mine, -1)
        theirs, is_theirs = half_set[mine], half_is[mine]  # (n, k, h)
        there = np.zeros(theirs.shape, dtype=bool)
        for slot in range(own.shape[1]):
            there |= theirs == own[:, slot, None, None]
        joins = is_mine & ((there & is_theirs).sum(2) > 2 / 3 * half_size[mine])
        image = np.arange(start, start + len(mine), dtype=np.int64) * len(near)
        joined = (image[:, None, None] + theirs)[joins[:, :, None] & is_theirs]
        keys = np.unique(np.concatenate([(image[:, None] + mine)[is_mine], joined]))
        yield slice(start, start + len(mine)), *np.divmod(keys, len(near))


def _reciprocal(near: Indices) -> tuple[Indices, NDArray[np.bool_]]:
    """(N, k) neighbours, and whether the image is among the k nearest of each of them."""
    mutual = np.empty(near.shape, dtype=bool)
    step = max(1, PIECE // near.shape[1] ** 2)
    for start in range(0, len(near), step):
        part = near[start : start + step]
        image = np.arange(start, start + len(part))
        mutual[start : start + step] = (near[part] == image[:, None, None]).any(2)
    return near, mutual


def _pair_distances(
    everyone: Tensor, norms: NDArray[np.float64], images: slice, starts: Indices, column: Indices
) -> NDArray[np.float64]:
    """(pairs,) squared distances of image i to `column[starts[i] : starts[i + 1]]`, for all i."""
    mine = everyone[images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "beta state"
        wanted = torch.sparse_csr_tensor(
            torch.from_numpy(starts).to(everyone.device),
            torch.from_numpy(column).to(everyone.device),
            everyone.new_zeros(len(column)),
            size=(len(mine), len(everyone)),
            check_invariants=False,
        )
        products = torch.sparse.sampled_addmm(wanted, mine, everyone.T, beta=0.0)
    own = np.repeat(norms[images], np.diff(starts))
    squared = own + norms[column] - 2 * products.values().double().cpu().numpy()
    result: NDArray[np.float64] = np.maximum(squared, 0)
    return result


def split_rows(rows: sparse.csr_array, by_gallery: sparse.csc_array, most: int) -> Iterator[Piece]:
    """Split encodings into at `most` so many pieces of similar work, a few rows each."""
    walked = np.diff(by_gallery.indptr)[rows.indices]  # images that share each non-zero
    before = np.concatenate([[0], np.cumsum(walked)])[rows.indptr]
    first = 0
    while first < rows.shape[0]:
        last = int(np.searchsorted(before, before[first] + PAIRS, side="right")) - 1
        last = min(max(last, first + 1), first + most, rows.shape[0])
        yield slice(first, last), rows[first:last]
        first = last


def _jaccard(piece: Piece, by_gallery: sparse.csc_array) -> Alike:
    """Jaccard similarity of a piece to the gallery, equation 10."""
    rows, encoding = piece
    shared = overlap(encoding, by_gallery)
    shared /= 2 - shared  # each encoding sums to 1
    return rows, shared


def overlap(rows: sparse.csr_array, by_gallery: sparse.csc_array) -> NDArray[np.float32]:
    """(q, G) the sum of the minima of two encodings, over the non-zeros that they share."""
    starts, gallery = by_gallery.indptr, by_gallery.shape[0]
    count = np.diff(starts)[rows.indices]
    ends = np.cumsum(count)
    walk = np.arange(ends[-1] if len(ends) else 0)
    walk += np.repeat(starts[rows.indices] - ends + count, count)
    line = np.repeat(np.arange(rows.shape[0]) * gallery, np.diff(rows.indptr))
    smaller = np.minimum(np.repeat(rows.data, count), by_gallery.data.take(walk))
    cell = np.repeat(line, count)
    cell += by_gallery.indices.take(walk)
    shared = np.bincount(cell, smaller, rows.shape[0] * gallery)
    return shared.astype(np.float32).reshape(-1, gallery)
