"""Verification and open set after a test: ROC curves and operating points."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.errors import UserError
from reid_lab.files.tables import write_csv
from reid_lab.model import ReidModule
from reid_lab.retrieval import Evaluation
from reid_lab.retrieval.open_set import TooFewPeopleError, operating_points
from reid_lab.retrieval.space import GIGABYTE, Space
from reid_lab.retrieval.verification import roc
from reid_lab.types import DistinctNonEmpty, OpenFraction, Seed

Row = dict[str, Any]


class VerificationError(UserError):
    """A rate or an exit that cannot be, and what can."""


class Verification(AfterRanking):
    """`results/roc.csv` and `results/operating_points.csv`: is it the same person, or nobody?

    A threshold for each of `false_accept_rates` is chosen on a third of the people, used on
    another third, and shown the last, whom the gallery does not hold. See
    retrieval/open_set.py. Too small a data set leaves no file and a warning.

    Args:
        false_accept_rates: wanted shares of impostor pairs that pass, between 0 and 1.
        seed: deals the people into the thirds.
        exits: None takes all.

    Raises:
        VerificationError: unknown exit or impossible rate, before the first batch.
    """

    def __init__(
        self,
        folder: Path | str,
        false_accept_rates: DistinctNonEmpty[OpenFraction] = (1e-2, 1e-3, 1e-4),
        seed: Seed = 0,
        exits: DistinctNonEmpty[str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.rates, self.seed, self.exits = false_accept_rates, seed, exits
        self.memory: float = GIGABYTE

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.memory = ranking_of(trainer, self).memory

    def check(self, mul_adds: dict[str, int], model: ReidModule) -> None:
        unknown = [name for name in self.exits or () if name not in mul_adds]
        if unknown:
            raise VerificationError(
                f"callbacks.verification.exits={list(self.exits or ())}: no exit is called "
                f"{', '.join(unknown)}; this network has {', '.join(mul_adds)}"
            )
        if not self.rates or not all(0 < rate < 1 for rate in self.rates):
            raise VerificationError(
                f"callbacks.verification.false_accept_rates={list(self.rates)}: give one or more "
                "between 0 and 1, such as [0.01, 0.001]; callbacks.verification=null leaves it out"
            )

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        curves: list[Row] = []
        points: list[Row] = []
        notes: list[str] = []
        for name in self.exits or evaluation.mul_adds:
            curve, dealt, why = self._exit(evaluation, name)
            curves += curve
            points += dealt
            notes += why
        if not any(math.isfinite(row["tpr_at_fpr"]) for row in points):
            points = []
        for file, rows in (("roc.csv", curves), ("operating_points.csv", points)):
            if rows:
                write_csv(self.results / file, rows)
        if any(notes):
            rank_zero_warn(f"verification: {'; '.join(dict.fromkeys(filter(None, notes)))}")

    def _exit(self, evaluation: Evaluation, name: str) -> tuple[list[Row], list[Row], list[str]]:
        """Rows of the curve and of the operating points, and what could not be found out."""
        exit = evaluation.embeddings.exits[name]
        if exit.signs is not None:
            return [], [], [f"exit {name} is left out: its metric is no distance"]
        space = Space.of(exit.query, exit.gallery, evaluation.metric)
        asked = evaluation.embeddings.query, evaluation.embeddings.gallery
        hidden = evaluation.protocol.hidden
        every_pair = roc(space, *asked, hidden, self.memory)
        curve = [{"exit": name, **row} for row in every_pair.curve()]
        try:
            dealt = operating_points(space, *asked, self.rates, hidden, self.seed, self.memory)
        except TooFewPeopleError as error:
            return curve, [], [str(error)]
        points = [
            {"exit": name, "far": p.far, "tpr_at_fpr": every_pair.tpr_at(p.far), **asdict(p)}
            for p in dealt
        ]
        return curve, points, [p.note for p in dealt]
