"""CMC, mAP and mINP under Market-1501's protocol (Zheng et al., ICCV 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid_lab.retrieval.distances import Metric, distance_chunks, junk_mask
from reid_lab.retrieval.embeddings import Ids

CMC_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Ranking:
    """How well each of Q queries was answered; a query without a match has no say.

    `first` (Q,) int64: 0-based position of the first match. `ap` (Q,): average precision.
    `inp` (Q,): matches / position of the last one. `answerable` (Q,) bool: has a match; the
    other three hold 0 where it has none.
    """

    first: Tensor
    ap: Tensor
    inp: Tensor
    answerable: Tensor

    def cmc(self, k: int) -> float:
        """Share of queries with a match among the first `k`."""
        return _mean(self.first[self.answerable] < k)

    @property
    def rank1(self) -> float:
        return self.cmc(1)

    @property
    def mAP(self) -> float:  # noqa: N802
        return _mean(self.ap[self.answerable])

    @property
    def mINP(self) -> float:  # noqa: N802
        return _mean(self.inp[self.answerable])

    def summary(self) -> dict[str, float]:
        """rank1, rank5, rank10, rank20, mAP and mINP, each 0 to 1."""
        ranks = {f"rank{k}": self.cmc(k) for k in CMC_RANKS}
        return {**ranks, "mAP": self.mAP, "mINP": self.mINP}


def rank(
    query: Tensor,
    gallery: Tensor,
    query_ids: Ids,
    gallery_ids: Ids,
    metric: Metric = "euclidean",
    chunk: int = 256,
) -> Ranking:
    """Rank the gallery (G, D) for each query (Q, D) and say where the matches stand.

    A match is the same person in another camera; junk (see `junk_mask`) is taken out of the
    ranking; distractors (pid 0) stay in. Equal distances rank in the gallery's order. The
    average precision is the plain one: the mean, over the matches, of the precision at each.

    Raises:
        ValueError: empty gallery or different dimensions.
    """
    parts = []
    for rows, distances in distance_chunks(query, gallery, metric, chunk):
        pids, camids = query_ids.pids[rows], query_ids.camids[rows]
        junk = junk_mask(pids, camids, gallery_ids.pids, gallery_ids.camids)
        match = (pids[:, None] == gallery_ids.pids[None]) & ~junk
        parts.append(_positions(distances.masked_fill(junk, torch.inf), match))
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return Ranking(*columns)


def _positions(distances: Tensor, match: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`first`, `ap`, `inp` and `answerable` of q queries with (q, G) distances, junk infinite."""
    places = _places(distances, match)
    matches = match.sum(1)
    numbers = torch.arange(1, places.shape[1] + 1)
    real = numbers <= matches[:, None]
    ap = (numbers / places * real).sum(1) / matches.clamp(min=1)
    inp = matches / (places * real).amax(1).clamp(min=1)
    return (places[:, 0] - 1) * (matches > 0), ap, inp, matches > 0


def _places(distances: Tensor, match: Tensor) -> Tensor:
    """(q, M) 1-based places of each query's matches in the ranking; behind them padding.

    A match stands behind what is nearer, and behind what is as far and comes before it in the
    gallery: both are counted, nothing is sorted but the matches.
    """
    most = max(1, int(match.sum(1).max()))
    nearest = distances.masked_fill(~match, torch.inf).topk(most, largest=False)
    near = nearest.values  # (q, M) ascending
    slot = torch.searchsorted(near, distances, right=True)  # matches that are not farther
    counts = torch.zeros(len(near), most + 1, dtype=torch.int64)
    counts.scatter_add_(1, slot, torch.ones_like(slot))
    places = counts.cumsum(1)[:, :-1] + 1
    as_far = near.gather(1, (slot - 1).clamp(min=0)) == distances
    row, column = (as_far & torch.isfinite(distances)).nonzero(as_tuple=True)
    tied = near[row] == distances[row, column, None]  # (T, M); the matches themselves are in it
    places.index_add_(0, row, (tied & (nearest.indices[row] > column[:, None])).long())
    return places.sort(1).values


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
