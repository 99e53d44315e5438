"""Ranking a gallery: plain torch and numpy, no Lightning, no Hydra."""

from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
from reid_lab.retrieval.evaluation import Evaluation, evaluate
from reid_lab.retrieval.metrics import Ranking, rank

__all__ = ["Embeddings", "Evaluation", "Exit", "Ids", "Ranking", "evaluate", "rank"]
