"""Verification and open-set evaluation after a test: ROC curves and operating points."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.accept_thresholds import fit_held_out_thresholds
from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.callbacks.fitted import Change, FittedAfterTraining
from reid_lab.checkpoint import fingerprint_of, with_accept_thresholds
from reid_lab.dataset.datamodule import data_of
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.rows.verification import ROC, OperatingPointRow, RocRow
from reid_lab.retrieval import Evaluation
from reid_lab.retrieval.memory import GIGABYTE
from reid_lab.retrieval.open_set import TooFewPeopleError, operating_points
from reid_lab.retrieval.space import Space
from reid_lab.retrieval.verification import roc
from reid_lab.types import AcceptRate, DistinctNonEmpty, Seed


class VerificationError(UserError):
    """An invalid rate or an unknown exit."""


class Verification(FittedAfterTraining, AfterRanking):
    """Adds `roc.csv` and `operating_points.csv`: ROC curves and operating points of an open set.

    A threshold for each of `false_accept_rates` is chosen on a third of the people and evaluated on
    another third, who are in the gallery, and on the last third, who are not. See
    retrieval/open_set.py. Rows carry the fingerprint of the tested checkpoint: a gallery built with
    it takes over the thresholds. If the data set is too small, nothing is added, with a warning.

    After a training with held-out people (`dataset.val_identities`) the tested checkpoint keeps
    thresholds that are fitted on them: `load_model(...).accept_thresholds`.

    Args:
        false_accept_rates: target shares of impostor pairs that pass, above 0 and at most 1.
        seed: random seed of the division into thirds; None takes the data module's.
        exits: exits to measure; None takes all.

    Raises:
        VerificationError: unknown exit or invalid rate, before the first batch.
    """

    def __init__(
        self,
        false_accept_rates: DistinctNonEmpty[AcceptRate] = (1e-2, 1e-3, 1e-4),
        seed: Seed | None = None,
        exits: DistinctNonEmpty[str] | None = None,
    ) -> None:
        super().__init__(seed)
        self.rates, self.exits = false_accept_rates, exits
        self.memory: float = GIGABYTE

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.memory = ranking_of(trainer, self).memory

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.fit_if_due(trainer, pl_module)

    def fit(self, trainer: pl.Trainer, module: ReidModule) -> Change | None:
        if not data_of(trainer).val_identities:
            return None
        found = fit_held_out_thresholds(trainer, module, self.seed or 0)
        key = fingerprint_of(module.state_dict(), module.hparams["model"]) if found else ""
        return partial(with_accept_thresholds, found=found, fingerprint=key) if found else None

    def check(self, mul_adds: dict[str, int], model: ReidModule) -> None:
        unknown = [name for name in self.exits or () if name not in mul_adds]
        if unknown:
            raise VerificationError(
                f"callbacks.verification.exits={list(self.exits or ())}: unknown exit "
                f"{', '.join(unknown)}; available: {', '.join(mul_adds)}"
            )
        if not self.rates or not all(0 < rate <= 1 for rate in self.rates):
            raise VerificationError(
                f"callbacks.verification.false_accept_rates={list(self.rates)}: give one or more "
                "above 0 and at most 1, such as [0.01, 0.001]; callbacks.verification=null leaves "
                "it out"
            )

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        curves: list[RocRow] = []
        points: list[OperatingPointRow] = []
        notes: list[str] = []
        for name in self.exits or evaluation.mul_adds:
            curve, found, why = self._exit(evaluation, name)
            curves += curve
            points += found
            notes += why
        results.roc = curves
        if any(math.isfinite(row.tmr_at_fmr) for row in points):
            config = model.hparams.get("model")  # what a checkpoint of it would hold
            key = fingerprint_of(model.state_dict(), config) if config is not None else ""
            results.operating_points = [replace(row, fingerprint=key) for row in points]
        if any(notes):
            rank_zero_warn(f"verification: {'; '.join(dict.fromkeys(filter(None, notes)))}")

    def _exit(
        self, evaluation: Evaluation, name: str
    ) -> tuple[list[RocRow], list[OperatingPointRow], list[str]]:
        """Rows of the curve and of the operating points, and notes on missing ones."""
        exit = evaluation.embeddings.exits[name]
        if exit.signs is not None:
            return [], [], [f"exit {name} is left out: its metric is not a distance"]
        space = Space.of(exit.query, exit.gallery, evaluation.metric)
        ids = evaluation.embeddings.query, evaluation.embeddings.gallery
        hidden = evaluation.protocol.hidden
        every_pair = roc(space, *ids, hidden, self.memory)
        curve = ROC.of({"exit": name, **row} for row in every_pair.curve())
        try:
            found = operating_points(space, *ids, self.rates, hidden, self.seed or 0, self.memory)
        except TooFewPeopleError as error:
            return curve, [], [str(error)]
        metric = evaluation.metric if isinstance(evaluation.metric, str) else ""
        points = [
            OperatingPointRow(
                exit=name, tmr_at_fmr=every_pair.tmr_at(p.fmr), metric=metric, **asdict(p)
            )
            for p in found
        ]
        return curve, points, [p.note for p in found]
