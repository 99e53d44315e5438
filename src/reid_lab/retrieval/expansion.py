"""Query expansion: a query moves towards what it finds, and asks again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.neighbours import smallest
from reid_lab.retrieval.ranking import rank
from reid_lab.retrieval.space import GIGABYTE, Metric, Space
from reid_lab.types import Count, NonNegative


@dataclass(frozen=True)
class QueryExpansion:
    """Mean of a query and its `neighbours` nearest, weighed by cosine similarity ^ `alpha`.

    With alpha 0 average query expansion (Chum et al., ICCV 2007), above it alpha query
    expansion (Radenovic et al., TPAMI 2019). Labels are not read: neighbours come from the
    whole gallery.
    """

    neighbours: Count = 5
    alpha: NonNegative = 3.0

    name = "query_expansion"

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
        """As `ranking.rank`, by the expanded queries."""
        space = Space.of(query, gallery, metric)
        expanded = self.expand(space, memory)
        ids = (query_ids, gallery_ids)
        # the space is Euclidean already; on unit vectors Euclidean distance ranks as cosine
        return rank(expanded, space.gallery, *ids, "euclidean", hidden, memory)

    def expand(self, space: Space, memory: float = GIGABYTE) -> Tensor:
        """(Q, D) the expanded queries, in the space; of length 1 where that is the cosine's."""
        space.check_euclidean("query expansion")
        parts = []
        for rows, distances in space.blocks(memory):
            near = smallest(distances, min(self.neighbours, distances.shape[1]))[1]
            found, mine = space.gallery[near], space.query[rows]  # (q, n, D), (q, D)
            likeness = F.cosine_similarity(found, mine[:, None], dim=2).clamp(min=0)
            weight = likeness**self.alpha
            total = 1 + weight.sum(1, keepdim=True)
            parts.append((mine + (weight[..., None] * found).sum(1)) / total)
        expanded = torch.cat(parts)
        return F.normalize(expanded, dim=1) if space.metric == "cosine" else expanded
