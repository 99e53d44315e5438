"""The ranking as a `torchmetrics.Metric`, for any Lightning project."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from reid_lab.protocol import MARKET1501, Protocol
from reid_lab.retrieval.checks import check_rows
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.evaluation import rank_trials
from reid_lab.retrieval.ranking import rank
from reid_lab.retrieval.space import GIGABYTE
from reid_lab.retrieval.space import Metric as Distance


class RankingMetric(Metric):
    """rank1, rank5, rank10, rank20, mAP, mAP_trapezoid and mINP, the same as `rank` gives.

    Batches may come in any order and from any process; an image that came twice, as the
    samplers of DDP pad, counts once. Equal distances rank in the order of `index`.

    Args:
        metric: euclidean, cosine, l1 or a Mahalanobis metric.
        protocol: see Protocol; single queries of images, without tracklets.
        half: keep embeddings in float16, at half the memory and about three digits.
        memory: bytes that `compute` may take beside the features.
        kwargs: those of torchmetrics; `compute_on_cpu=True` keeps a GPU free of them.

    Raises:
        ValueError: the protocol pools images; use `evaluate`.
    """

    full_state_update = False
    higher_is_better = True
    rows: list[Tensor]
    pids: list[Tensor]
    camids: list[Tensor]
    is_query: list[Tensor]
    index: list[Tensor]

    def __init__(
        self,
        metric: Distance = "euclidean",
        protocol: Protocol = MARKET1501,
        half: bool = False,
        memory: float = GIGABYTE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if protocol.query == "multi" or protocol.tracklets:
            raise ValueError("the metric ranks single images: for pooled ones use evaluate")
        self.metric, self.protocol, self.half_rows, self.memory = metric, protocol, half, memory
        for state in ("rows", "pids", "camids", "is_query", "index"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(
        self, rows: Tensor, pids: Tensor, camids: Tensor, is_query: Tensor, index: Tensor
    ) -> None:
        """Embeddings `rows` (N, D); `pids`, `camids`, `index` (N,) ints, `is_query` (N,) bool.

        `index` is the image's number in the data set, query and gallery together.

        Raises:
            ValueError: other lengths than N, or rows that are not finite.
        """
        lengths = {len(x) for x in (rows, pids, camids, is_query, index)}
        if rows.ndim != 2 or len(lengths) > 1:
            raise ValueError(
                f"rows {tuple(rows.shape)} must be (N, D), and pids, camids, is_query and index "
                f"as many: {sorted(lengths)}"
            )
        rows = rows.detach()
        check_rows("batch", rows, zeros_allowed=True)
        self.rows.append(rows.half() if self.half_rows else rows.float())
        for state, values in (("pids", pids), ("camids", camids), ("index", index)):
            getattr(self, state).append(values.long())
        self.is_query.append(is_query.bool())

    def compute(self) -> dict[str, Tensor]:
        """The accuracies by name, 0 to 1.

        Raises:
            ValueError: no query, or no gallery.
        """
        states = (self.index, self.rows, self.pids, self.camids, self.is_query)
        index, rows, pids, camids, is_query = (_cat(state) for state in states)
        first = torch.from_numpy(np.unique(index.cpu().numpy(), return_index=True)[1])
        query, gallery = (
            first[(is_query[first.to(is_query.device)] == part).cpu()] for part in (True, False)
        )
        if not len(query) or not len(gallery):
            raise ValueError(f"{len(query)} queries and {len(gallery)} gallery images came")
        ids = Ids(pids.cpu(), camids.cpu(), np.arange(len(pids)))
        ranking = rank_trials(
            rank,
            rows[query.to(rows.device)],
            rows[gallery.to(rows.device)],
            ids.take(query),
            ids.take(gallery),
            self.metric,
            self.protocol,
            self.memory,
        )
        return {name: torch.tensor(value) for name, value in ranking.summary().items()}


def _cat(state: list[Tensor] | Tensor) -> Tensor:
    """Lists become one tensor when torchmetrics gathers them."""
    if isinstance(state, Tensor):
        return state
    if not state:
        raise ValueError("nothing to rank: call update with embeddings first")
    return torch.cat(state)
