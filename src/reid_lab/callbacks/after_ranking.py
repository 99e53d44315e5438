"""Base class of callbacks that use the evaluation of the ranking callback."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl

from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.retrieval import Evaluation
from reid_lab.types import Role, Seed


class AfterRanking(pl.Callback):
    """Adds to the results of the ranking callback at the end of a test, on one process.

    Args:
        seed: random seed; None takes the data module's.
    """

    role: Role = "measurement"
    needs_ranking = True

    def __init__(self, seed: Seed | None = None) -> None:
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        ranking = ranking_of(trainer, self)
        self.check(ranking.mul_adds, cast(ReidModule, pl_module))
        if self.seed is None:
            self.seed = data_of(trainer).seed

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ranking = ranking_of(trainer, self)
        if ranking.evaluation is not None and trainer.is_global_zero:
            self.add(ranking.results, ranking.evaluation, cast(ReidModule, pl_module))

    def check(self, mul_adds: dict[str, int], model: ReidModule) -> None:
        """Check the options before the first batch; `mul_adds` are those of the exits."""

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        """Compute rows from an evaluation and add them to the results."""
        raise NotImplementedError


def ranking_of(trainer: pl.Trainer, callback: pl.Callback) -> RankingEvaluation:
    """The ranking callback, which must come before `callback`.

    Raises:
        RankingError: there is none, or it comes after `callback`.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for each in callbacks[: callbacks.index(callback)]:
        if isinstance(each, RankingEvaluation):
            return each
    waiting = [type(each).__name__ for each in callbacks if getattr(each, "needs_ranking", False)]
    raise RankingError(
        f"callbacks.ranking: {type(callback).__name__} needs its evaluation; keep ranking before "
        f"it, or leave out all callbacks that need it: {', '.join(waiting)}"
    )
