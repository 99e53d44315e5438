"""Person re-identification under a compute budget.

The names below are what plain Python code needs. Each is imported from its home when it is first
used, so that `import reid_lab` costs neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_lab.budget.anytime import AnytimeModel
    from reid_lab.budget.stopping import EarlyExitModel
    from reid_lab.checkpoint import load_model
    from reid_lab.dataset import ReidDataModule
    from reid_lab.retrieval import PCA, KReciprocal, RankingMetric, evaluate, rank

__version__ = "0.1.0"

_HOMES = {
    "AnytimeModel": "budget.anytime",
    "EarlyExitModel": "budget.stopping",
    "KReciprocal": "retrieval",
    "PCA": "retrieval",
    "RankingMetric": "retrieval",
    "ReidDataModule": "dataset",
    "evaluate": "retrieval",
    "load_model": "checkpoint",
    "rank": "retrieval",
}
__all__ = [
    "PCA",
    "AnytimeModel",
    "EarlyExitModel",
    "KReciprocal",
    "RankingMetric",
    "ReidDataModule",
    "__version__",
    "evaluate",
    "load_model",
    "rank",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
