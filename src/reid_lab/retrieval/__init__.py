"""Rank a gallery: torch and numpy, no Lightning, no Hydra.

`RankingMetric` is imported on first use, as it needs torchmetrics.
"""

from typing import TYPE_CHECKING, Any

from reid_lab.protocol import Protocol
from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
from reid_lab.retrieval.evaluation import Evaluation, evaluate
from reid_lab.retrieval.expansion import QueryExpansion
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.projection import PCA
from reid_lab.retrieval.ranking import rank
from reid_lab.retrieval.rerank import KReciprocal
from reid_lab.retrieval.space import Mahalanobis
from reid_lab.retrieval.verification import Roc, roc

if TYPE_CHECKING:
    from reid_lab.retrieval.torchmetric import RankingMetric

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


def __getattr__(name: str) -> Any:
    if name != "RankingMetric":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reid_lab.retrieval.torchmetric import RankingMetric

    return RankingMetric
