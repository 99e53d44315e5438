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
    from reid_lab.cost.mul_adds import count_exits
    from reid_lab.dataset import ReidDataModule
    from reid_lab.errors import UserError
    from reid_lab.export.checkpoint import export_checkpoint
    from reid_lab.gallery.build import build_gallery
    from reid_lab.gallery.embedder import embed
    from reid_lab.gallery.link import link_tracklets
    from reid_lab.gallery.search import search_gallery
    from reid_lab.gallery.store import SavedGallery
    from reid_lab.protocol import Protocol
    from reid_lab.retrieval import (
        PCA,
        Embeddings,
        Exit,
        Ids,
        KReciprocal,
        RankingMetric,
        evaluate,
        rank,
    )
    from reid_lab.run.experiment import run_experiment

__version__ = "0.1.0"

_HOMES = {
    "AnytimeModel": "budget.anytime",
    "BudgetedStream": "budget.stopping",
    "Embeddings": "retrieval",
    "Exit": "retrieval",
    "Ids": "retrieval",
    "KReciprocal": "retrieval",
    "PCA": "retrieval",
    "Protocol": "protocol",
    "RankingMetric": "retrieval",
    "ReidDataModule": "dataset",
    "SavedGallery": "gallery.store",
    "UserError": "errors",
    "build_gallery": "gallery.build",
    "count_exits": "cost.mul_adds",
    "embed": "gallery.embedder",
    "evaluate": "retrieval",
    "export_checkpoint": "export.checkpoint",
    "link_tracklets": "gallery.link",
    "load_model": "checkpoint",
    "rank": "retrieval",
    "run_experiment": "run.experiment",
    "search_gallery": "gallery.search",
}
__all__ = [
    "PCA",
    "AnytimeModel",
    "BudgetedStream",
    "Embeddings",
    "Exit",
    "Ids",
    "KReciprocal",
    "Protocol",
    "RankingMetric",
    "ReidDataModule",
    "SavedGallery",
    "UserError",
    "__version__",
    "build_gallery",
    "count_exits",
    "embed",
    "evaluate",
    "export_checkpoint",
    "link_tracklets",
    "load_model",
    "rank",
    "run_experiment",
    "search_gallery",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
