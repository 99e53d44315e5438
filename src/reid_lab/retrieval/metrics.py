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
    order = distances.argsort(dim=1, stable=True)
    hits = match.gather(1, order)  # (q, G): the ranking as right / wrong
    matches = hits.sum(1)
    places = torch.arange(1, hits.shape[1] + 1)
    precision = hits.cumsum(1) / places
    ap = (precision * hits).sum(1) / matches.clamp(min=1)
    last = (hits * places).amax(1)
    inp = matches / last.clamp(min=1)
    return hits.int().argmax(1), ap, inp, matches > 0


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
