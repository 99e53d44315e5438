"""Query expansion: a query is averaged with its nearest gallery images and ranked again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan, tile_rows
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.neighbours import smallest, smallest_work
from reid_lab.retrieval.processes import Processes
from reid_lab.retrieval.ranking import Reranker, rank, rank_work
from reid_lab.retrieval.space import Space
from reid_lab.types import Count, NonNegative


@dataclass(frozen=True)
class QueryExpansion(Reranker):
    """Average a query with its `neighbours` nearest, weighted by cosine similarity ^ `alpha`.

    alpha = 0 is average query expansion (Chum et al., ICCV 2007), alpha > 0 is alpha query
    expansion (Radenovic et al., TPAMI 2019). Labels are not read: neighbours come from the whole
    gallery.

    Args:
        neighbours: number of gallery images that are averaged with the query.
        alpha: power of the cosine similarity that weights them.
    """

    neighbours: Count = 5
    alpha: NonNegative = 3.0

    name = "query_expansion"

    def rank_space(
        self,
        space: Space,
        query_ids: Ids,
        gallery_ids: Ids,
        hidden: Hidden,
        memory: float,
        processes: Processes,
    ) -> Ranking:
        mine = processes.share(len(space.query), tile_rows(len(space.gallery)))
        expanded = torch.cat(processes.gather(self.expand(space.part(mine), memory)))
        ids = (query_ids, gallery_ids)
        # the space is Euclidean already; on unit vectors Euclidean distance ranks as cosine
        return rank(expanded, space.gallery, *ids, "euclidean", hidden, memory, processes)

    def expand(self, space: Space, memory: float = GIGABYTE) -> Tensor:
        """(Q, D) expanded queries in the space, of length 1 for the cosine metric."""
        space.check_euclidean("query expansion")
        count, work = min(self.neighbours, len(space.gallery)), self._work(*space.gallery.shape)
        step = max(1, int(BlockPlan.of(len(space.gallery), memory, work).spare / work))
        parts = [space.query[:0]]
        for rows, block in space.blocks(memory, work):
            for distances, mine in zip(
                block.split(step), space.query[rows].split(step), strict=True
            ):
                near = smallest(distances, count)[1]
                found = space.gallery[near]  # (q, n, D)
                likeness = F.cosine_similarity(found, mine[:, None], dim=2).clamp(min=0)
                weight = likeness**self.alpha
                total = 1 + weight.sum(1, keepdim=True)
                parts.append((mine + (weight[..., None] * found).sum(1)) / total)
        expanded = torch.cat(parts)
        return F.normalize(expanded, dim=1) if space.metric == "cosine" else expanded

    def check_memory(self, query_ids: Ids, gallery_ids: Ids, dim: int, memory: float) -> None:
        """Check that `memory` is enough to expand the queries and to rank."""
        work = max(rank_work(query_ids, gallery_ids), self._work(len(gallery_ids), dim))
        BlockPlan.of(len(gallery_ids), memory, work)

    def _work(self, gallery: int, dim: int) -> int:
        """Bytes per query beside its distances."""
        count = min(self.neighbours, gallery)
        return smallest_work(gallery, count) + 24 * count * dim
