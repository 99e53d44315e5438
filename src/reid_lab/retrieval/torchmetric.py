"""The ranking as a `torchmetrics.Metric`, for any Lightning project."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from reid_lab.errors import UserError
from reid_lab.protocol import MARKET1501, Protocol
from reid_lab.retrieval.checks import as_ids, as_rows, as_tensor, check_rows
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.evaluation import rank_trials
from reid_lab.retrieval.memory import GIGABYTE
from reid_lab.retrieval.ranking import rank
from reid_lab.retrieval.space import Metric as Distance

IDS = ("pids", "camids", "index")


class RankingMetric(Metric):
    """rank1, rank5, rank10, rank20, mAP, mAP_trapezoid and mINP, equal to those of `rank`.

    Batches may come in any order and from any process, and some processes may have none. An image
    that occurs twice, as DDP's samplers pad, counts once. Ties are broken by `index`.

    Args:
        metric: euclidean, cosine, l1 or a Mahalanobis metric.
        protocol: see Protocol; single queries of images, without tracklets.
        half: keep embeddings in float16: half the memory, about three digits.
        memory: limit in bytes on `compute` beside the embeddings, see memory.py.
        kwargs: arguments of torchmetrics; `compute_on_cpu=True` keeps embeddings off the GPU.

    Raises:
        UserError: the protocol pools images; use `evaluate`.
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
            raise UserError(
                "the metric ranks single images: for pooled ones (multi-queries, tracklets) use "
                "evaluate"
            )
        self.metric, self.protocol, self.half_rows, self.memory = metric, protocol, half, memory
        for state in ("rows", "is_query", *IDS):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(
        self,
        rows: Tensor | np.ndarray,
        pids: Tensor | np.ndarray,
        camids: Tensor | np.ndarray,
        is_query: Tensor | np.ndarray,
        index: Tensor | np.ndarray,
    ) -> None:
        """Embeddings `rows` (N, D); `pids`, `camids`, `index` (N,) ints, `is_query` (N,) bool.

        `index` is the image's number in the data set, query and gallery together. Where the
        protocol hides an image from itself, every image is in the gallery.

        Raises:
            UserError: unequal lengths, another dimension than before, or rows that are not finite.
        """
        rows = as_rows("batch", rows).to(self.device)
        kept = rows.half() if self.half_rows else rows.float()
        ids = [as_ids(name, x) for name, x in zip(IDS, (pids, camids, index), strict=True)]
        is_query = as_tensor("is_query", is_query).to(self.device).bool()
        lengths = {len(x) for x in (rows, is_query, *ids)}
        if is_query.ndim != 1 or len(lengths) > 1:
            raise UserError(
                f"rows {tuple(rows.shape)} must be (N, D), and pids, camids, is_query and index "
                f"(N,) with the same N; these have lengths {sorted(lengths)}"
            )
        check_rows("batch", rows, zeros_allowed=True)
        if not bool(kept.isfinite().all()):
            raise UserError("batch embeddings are too large for their type: scale them, half=False")
        images = sum(map(len, self.index))
        before = sum(map(len, self.rows)) // images if images else rows.shape[1]
        if before != rows.shape[1]:
            raise UserError(
                f"embeddings had {before} dimensions, now they have {rows.shape[1]}: call reset() "
                "between models"
            )
        if not len(rows):
            return
        self.rows.append(kept.flatten())  # one axis: a process without any gathers as well
        self.is_query.append(is_query)
        for state, values in zip(IDS, ids, strict=True):
            getattr(self, state).append(values.to(self.device))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Like torchmetrics' `sync`; a process without embeddings takes part with empty states."""
        kind = torch.half if self.half_rows else torch.float
        kinds = {"rows": kind, "is_query": torch.bool} | dict.fromkeys(IDS, torch.long)
        for state, dtype in kinds.items():
            if not len(getattr(self, state)):
                setattr(self, state, [torch.empty(0, dtype=dtype, device=self.device)])
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """The accuracies by name, 0 to 1.

        Raises:
            NoMatchError: no query has a visible match.
            UserError: no query, or no gallery.
        """
        index, rows, pids, camids, is_query = (
            _cat(state) for state in (self.index, self.rows, self.pids, self.camids, self.is_query)
        )
        if not len(index):
            raise UserError("nothing to rank: call update with embeddings first")
        if len(rows) % len(index):
            raise UserError(
                "the processes' embeddings have different dimensions: use the same model in all"
            )
        rows = rows.view(len(index), -1)
        first = torch.from_numpy(np.unique(index.cpu().numpy(), return_index=True)[1])
        is_query = is_query[first.to(is_query.device)].cpu()
        query = first[is_query]
        gallery = first if self.protocol.hidden == "itself" else first[~is_query]
        if not len(query) or not len(gallery):
            raise UserError(
                f"{len(query)} queries and {len(gallery)} gallery images: update it with both"
            )
        ids = Ids(pids.cpu(), camids.cpu(), index.cpu().numpy())
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
    return torch.cat(state) if state else torch.empty(0)
