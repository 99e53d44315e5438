"""Ranking a gallery: plain torch and numpy, no Lightning, no Hydra; indexes are faiss's."""

from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
from reid_lab.retrieval.evaluation import Evaluation, evaluate
from reid_lab.retrieval.expansion import QueryExpansion
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.projection import PCA
from reid_lab.retrieval.ranking import rank
from reid_lab.retrieval.rerank import KReciprocal
from reid_lab.retrieval.space import Mahalanobis
from reid_lab.retrieval.torchmetric import RankingMetric

__all__ = [
    "PCA",
    "Embeddings",
    "Evaluation",
    "Exit",
    "Ids",
    "KReciprocal",
    "Mahalanobis",
    "QueryExpansion",
    "Ranking",
    "RankingMetric",
    "evaluate",
    "rank",
]
