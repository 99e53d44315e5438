"""The base of the callbacks that work on what the ranking callback leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl

from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.model import ReidModule
from reid_lab.retrieval import Evaluation

NEED_IT = "anytime, thresholds, stream, verification, dimensions, cost, ranked_lists, attention"


class AfterRanking(pl.Callback):
    """Does its work on the evaluation that the ranking callback leaves, on one process."""

    def __init__(self, folder: Path | str) -> None:
        self.results = Path(folder) / "results"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.check(ranking_of(trainer, self).mul_adds, cast(ReidModule, pl_module))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        evaluation = ranking_of(trainer, self).evaluation
        if evaluation is not None and trainer.is_global_zero:
            self.work(evaluation, cast(ReidModule, pl_module))

    def check(self, mul_adds: dict[str, int], model: ReidModule) -> None:
        """Look at the options before the first batch."""

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        raise NotImplementedError


def ranking_of(trainer: pl.Trainer, asking: pl.Callback) -> RankingEvaluation:
    """The ranking callback, which must stand before the one that asks.

    Raises:
        RankingError: there is none, or it comes later.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks[: callbacks.index(asking)]:
        if isinstance(callback, RankingEvaluation):
            return callback
    raise RankingError(
        f"callbacks.ranking: {type(asking).__name__} works on what it leaves; keep it before the "
        f"others, or leave out, too, what needs it: callbacks.NAME=null for {NEED_IT}"
    )
