"""Rates of pairs within a threshold, in bootstrap samples of the query identities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan
from reid_lab.retrieval.ranking import hidden_mask
from reid_lab.retrieval.space import Space

PAIR = 64  # bytes: masks, the distance, the index of a pair that passes
Rates = NDArray[np.float64]


def pair_rates(
    space: Space,
    query: Ids,
    gallery: Ids,
    thresholds: Sequence[float],
    draws: np.ndarray,
    hidden: Hidden = "same_person_and_camera",
    memory: float = GIGABYTE,
) -> tuple[Rates, Rates]:
    """Shares of impostor and genuine pairs within each threshold, (B, F) each.

    A pair of two people is weighted by the counts of both in a sample, and images of one person are
    never impostors of each other; gallery images of people without a query have weight 1. The
    samples thus vary with the people on both sides of a pair (Snijders and Borgatti,
    "Non-parametric standard errors and tests for network statistics", Connections 1999).

    Args:
        thresholds: F distances; nan gives nan rates.
        draws: (B, K) count of each person in each sample, ordered by pid.
        memory: bytes for the work beside the embeddings and the draws.
    """
    people, person = query.pids.unique(return_inverse=True)  # (K,), (Q,)
    index = torch.searchsorted(people, gallery.pids).clamp(max=len(people) - 1)
    column = torch.where(people[index] == gallery.pids, index, len(people))  # (G,), K of others
    drawn = torch.from_numpy(np.column_stack([draws, np.ones(len(draws))]))  # (B, K + 1)
    shown = torch.bincount(column, minlength=len(people) + 1)  # (K + 1,) images
    genuine, impostors = torch.zeros(2, len(draws), len(thresholds) + 1, dtype=torch.float64)
    work = PAIR * len(gallery) + 8 * (len(thresholds) + 2) * len(shown) + 24 * len(draws)
    for rows, reduced in visible_distances(space, query, gallery, hidden, memory, work):
        distances, own = space.distances(rows, reduced), person[rows, None]  # (q, G), (q, 1)
        times = drawn[:, own[:, 0]]  # (B, q)
        counted = [_by_person(distances < limit, column, len(shown)) for limit in thresholds]
        every = shown - _by_person(distances.isinf(), column, len(shown))
        for f, counts in enumerate([*counted, every]):  # (q, K + 1)
            genuine[:, f] += times @ counts.gather(1, own)[:, 0]
            counts.scatter_(1, own, 0)
            impostors[:, f] += (times * (drawn @ counts.T)).sum(1)
    return _shares(impostors, thresholds), _shares(genuine, thresholds)


def visible_distances(
    space: Space, query: Ids, gallery: Ids, hidden: Hidden, memory: float, work: float
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, reduced distances (q, G)), infinite where an image is hidden from the query.

    Args:
        memory: bytes for the work, of which each query takes `work`.
    """
    step = max(1, int(BlockPlan.of(len(gallery), memory, work).spare / work))
    for rows, block in space.blocks(memory, work):
        for start in range(rows.start, rows.stop, step):
            some = slice(start, min(start + step, rows.stop))
            reduced = block[some.start - rows.start : some.stop - rows.start]
            mine = query.take(torch.arange(some.start, some.stop))
            reduced.masked_fill_(hidden_mask(mine, gallery, hidden).to(reduced.device), torch.inf)
            yield some, reduced


def _by_person(pairs: Tensor, column: Tensor, columns: int) -> Tensor:
    """(q, G) bool -> (q, columns) number of a query's pairs with each person."""
    row, image = (index.cpu() for index in pairs.nonzero(as_tuple=True))
    pairs_of = torch.bincount(row * columns + column[image], minlength=len(pairs) * columns)
    return pairs_of.view(len(pairs), columns).double()


def _shares(counts: Tensor, thresholds: Sequence[float]) -> Rates:
    """(B, F + 1) counts -> (B, F) shares of the last column; nan without pairs."""
    shares = counts[:, :-1] / counts[:, -1:]
    shares[:, torch.tensor(thresholds).isnan()] = torch.nan
    result: Rates = shares.numpy()
    return result
