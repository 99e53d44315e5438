"""Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), memory linear in N.

The published algorithm fills N x N matrices that are nearly all zeros. Here each image's
encoding is its list of non-zeros, found from exact neighbours, and the Jaccard distance walks
over the lists that two images share.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.neighbours import smallest
from reid_lab.retrieval.ranking import rank_blocks
from reid_lab.retrieval.space import GIGABYTE, Metric, Space
from reid_lab.types import Count, Fraction

Rows = NDArray[np.int64]
PIECE = 4096  # images whose neighbours are compared at a time
PAIRS = 100_000  # shared non-zeros that a thread walks over at a time: they stay in its cache


@dataclass(frozen=True)
class KReciprocal:
    """The paper's options: `k1`, `k2` and `weight` (lambda) of the original distance."""

    k1: Count = 20
    k2: Count = 6
    weight: Fraction = 0.3

    name = "k_reciprocal"

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise ValueError(
                f"k1={self.k1}, k2={self.k2}, weight={self.weight}: neighbours must be 1 or more, "
                "and the weight of the original distance 0 to 1"
            )

    def rank(
        self,
        query: Tensor,
        gallery: Tensor,
        query_ids: Ids,
        gallery_ids: Ids,
        metric: Metric = "euclidean",
        hidden: Hidden = "same_person_and_camera",
        memory: float = GIGABYTE,
    ) -> Ranking:
        """As `ranking.rank`, by the re-ranked distances."""
        blocks = self.blocks(Space.of(query, gallery, metric), memory)
        return rank_blocks(blocks, query_ids, gallery_ids, hidden)

    def blocks(self, space: Space, memory: float = GIGABYTE) -> Iterator[tuple[slice, Tensor]]:
        """(rows, re-ranked distances (len(rows), G)), 0 to 1; the next overwrites the last.

        The original distance is squared and each row is divided by its largest, over queries
        and gallery, as in the authors' code.
        """
        space.check_euclidean("k-reciprocal re-ranking")
        everyone = torch.cat([space.query, space.gallery])
        near, farthest = neighbours(everyone, max(self.k1 + 1, self.k2), memory)
        encoding = self.encode(everyone, near, farthest)
        by_gallery = encoding[len(space.query) :].tocsc()
        norms = space.query.square().sum(1, keepdim=True)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for rows, distances in space.blocks(memory):
                distances.add_(norms[rows]).clamp_(min=0)
                distances.mul_(self.weight / farthest[rows, None]).add_(1 - self.weight)
                parts = pieces(encoding[rows], by_gallery)
                for part, alike in pool.map(partial(_jaccard, by_gallery=by_gallery), parts):
                    distances[part].sub_(
                        torch.from_numpy(alike).to(distances), alpha=1 - self.weight
                    )
                yield rows, distances

    def encode(self, everyone: Tensor, near: Rows, farthest: Tensor) -> sparse.csr_array:
        """(N, N) sparse: each row weighs the image's k-reciprocal neighbours. Equations 4 to 8."""
        row, column = reciprocal_pairs(near, self.k1)
        weight = np.exp(-_pair_distances(everyone, row, column) / farthest.cpu().numpy()[row])
        total = np.bincount(row, weight, len(near))
        values = (weight / total[row]).astype(np.float32)
        encoding = sparse.csr_array((values, (row, column)), shape=(len(near), len(near)))
        if self.k2 == 1:
            return encoding
        nearest = near[:, : self.k2]  # local query expansion
        share = np.full(nearest.size, 1 / nearest.shape[1], dtype=np.float32)
        starts = np.arange(0, nearest.size + 1, nearest.shape[1])
        return sparse.csr_array((share, nearest.ravel(), starts), shape=encoding.shape) @ encoding


def neighbours(everyone: Tensor, k: int, memory: float = GIGABYTE) -> tuple[Rows, Tensor]:
    """Each image's k nearest of all N (N, k), itself included; its largest squared (N,)."""
    space = Space(everyone, everyone)
    norms = everyone.square().sum(1)
    k = min(k, len(everyone))
    near = np.empty((len(everyone), k), dtype=np.int64)
    farthest = torch.empty_like(norms)
    for rows, distances in space.blocks(memory):
        near[rows] = smallest(distances, k)[1].cpu().numpy()
        farthest[rows] = distances.amax(1) + norms[rows]
    return near, torch.where(farthest > 0, farthest, 1.0)  # all images the same: any will do


def reciprocal_pairs(near: Rows, k1: int) -> tuple[Rows, Rows]:
    """(pairs,) image and expanded k-reciprocal neighbour, sorted. Equations 2 and 3.

    The half-sized set of a neighbour joins where more than two thirds of it are there already.
    """
    half = int(np.around(k1 / 2))
    full_set, full_is = _reciprocal(near[:, : k1 + 1])
    half_set, half_is = _reciprocal(near[:, : half + 1])
    half_size = half_is.sum(1)
    keys = []
    for start in range(0, len(near), PIECE):
        mine, is_mine = full_set[start : start + PIECE], full_is[start : start + PIECE]
        own = np.where(is_mine, mine, -1)
        theirs, is_theirs = half_set[mine], half_is[mine]  # (n, k, h)
        there = np.zeros(theirs.shape, dtype=bool)
        for slot in range(own.shape[1]):
            there |= theirs == own[:, slot, None, None]
        joins = is_mine & ((there & is_theirs).sum(2) > 2 / 3 * half_size[mine])
        image = np.arange(start, start + len(mine), dtype=np.int64) * len(near)
        joined = (image[:, None, None] + theirs)[joins[:, :, None] & is_theirs]
        keys.append(np.unique(np.concatenate([(image[:, None] + mine)[is_mine], joined])))
    return np.divmod(np.concatenate(keys), len(near))


def _reciprocal(near: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """(N, k) the neighbours, and whether the image is among each one's k nearest, too."""
    mutual = np.empty(near.shape, dtype=bool)
    for start in range(0, len(near), PIECE):
        part = near[start : start + PIECE]
        image = np.arange(start, start + len(part))
        mutual[start : start + PIECE] = (near[part] == image[:, None, None]).any(2)
    return near, mutual


def _pair_distances(everyone: Tensor, row: Rows, column: Rows) -> NDArray[np.float64]:
    """(pairs,) squared distances; the pairs are sorted."""
    starts = np.searchsorted(row, np.arange(len(everyone) + 1))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # "beta state"
        wanted = torch.sparse_csr_tensor(
            torch.from_numpy(starts).to(everyone.device),
            torch.from_numpy(column).to(everyone.device),
            everyone.new_zeros(len(row)),
            size=(len(everyone), len(everyone)),
            check_invariants=False,
        )
        products = torch.sparse.sampled_addmm(wanted, everyone, everyone.T, beta=0.0)
    norms = everyone.square().sum(1).double().cpu().numpy()
    squared = norms[row] + norms[column] - 2 * products.values().double().cpu().numpy()
    return np.maximum(squared, 0)


def pieces(
    rows: sparse.csr_array, by_gallery: sparse.csc_array
) -> Iterator[tuple[slice, sparse.csr_array]]:
    """Encodings in pieces of about as much work, a few rows each."""
    walked = np.diff(by_gallery.indptr)[rows.indices]  # images that share each non-zero
    before = np.concatenate([[0], np.cumsum(walked)])[rows.indptr]
    first = 0
    while first < rows.shape[0]:
        last = int(np.searchsorted(before, before[first] + PAIRS, side="right")) - 1
        last = min(max(last, first + 1), rows.shape[0])
        yield slice(first, last), rows[first:last]
        first = last


def _jaccard(
    piece: tuple[slice, sparse.csr_array], by_gallery: sparse.csc_array
) -> tuple[slice, NDArray[np.float32]]:
    """The rows, and their Jaccard similarity to the gallery (q, G). Equation 10."""
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
    place = np.repeat(line, count)
    place += by_gallery.indices.take(walk)
    shared = np.bincount(place, smaller, rows.shape[0] * gallery)
    return shared.astype(np.float32).reshape(-1, gallery)
