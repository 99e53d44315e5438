"""Rank a gallery: torch and numpy, no Lightning, no Hydra.

Names are imported on first use; `RankingMetric` needs torchmetrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.protocol import Protocol
    from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
    from reid_lab.retrieval.evaluation import Evaluation, evaluate
    from reid_lab.retrieval.expansion import QueryExpansion
    from reid_lab.retrieval.metrics import Ranking
    from reid_lab.retrieval.projection import PCA
    from reid_lab.retrieval.ranking import rank
    from reid_lab.retrieval.rerank import KReciprocal
    from reid_lab.retrieval.space import Mahalanobis
    from reid_lab.retrieval.torchmetric import RankingMetric
    from reid_lab.retrieval.verification import Roc, roc

_HOMES = {
    "Embeddings": "embeddings",
    "Evaluation": "evaluation",
    "Exit": "embeddings",
    "Ids": "embeddings",
    "KReciprocal": "rerank",
    "Mahalanobis": "space",
    "PCA": "projection",
    "Protocol": ".protocol",
    "QueryExpansion": "expansion",
    "Ranking": "metrics",
    "RankingMetric": "torchmetric",
    "Roc": "verification",
    "evaluate": "evaluation",
    "rank": "ranking",
    "roc": "verification",
}
__all__ = [
    "PCA",
    "Embeddings",
    "Evaluation",
    "Exit",
    "Ids",
    "KReciprocal",
    "Mahalanobis",
    "Protocol",
    "QueryExpansion",
    "Ranking",
    "RankingMetric",
    "Roc",
    "evaluate",
    "rank",
    "roc",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
