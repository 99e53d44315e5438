"""Person re-identification under a compute budget.

The public API. Each name is imported on first use, so that `import reid_lab` imports neither torch
nor Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.budget.anytime import AnytimeModel
    from reid_lab.budget.stopping import BudgetedStream
    from reid_lab.checkpoint import load_model
    from reid_lab.dataset import ReidDataModule
    from reid_lab.gallery.embed import embed
    from reid_lab.retrieval import PCA, KReciprocal, RankingMetric, evaluate, rank

__version__ = "0.1.0"

_HOMES = {
    "AnytimeModel": "budget.anytime",
    "BudgetedStream": "budget.stopping",
    "KReciprocal": "retrieval",
    "PCA": "retrieval",
    "RankingMetric": "retrieval",
    "ReidDataModule": "dataset",
    "embed": "gallery.embed",
    "evaluate": "retrieval",
    "load_model": "checkpoint",
    "rank": "retrieval",
}
__all__ = [
    "PCA",
    "AnytimeModel",
    "BudgetedStream",
    "KReciprocal",
    "RankingMetric",
    "ReidDataModule",
    "__version__",
    "embed",
    "evaluate",
    "load_model",
    "rank",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
