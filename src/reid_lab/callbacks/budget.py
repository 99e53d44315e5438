"""Budget sweeps after a test: the anytime curve and the budgeted stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.budget.anytime import anytime_curve
from reid_lab.budget.policies import Candidates, Policy
from reid_lab.budget.sweep import GallerySize, Order, Thresholds, check_budgets, stream_sweep
from reid_lab.budget.thresholds import Calibration
from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.callbacks.early_exit import EarlyExitThresholds
from reid_lab.errors import UserError
from reid_lab.files.tables import write_csv
from reid_lab.model import ReidModule
from reid_lab.retrieval import Evaluation
from reid_lab.types import DistinctNonEmpty, MulAdds, NonEmpty, Points, Seed


class BudgetError(UserError):
    """An exit or a budget that the network does not have, and those that it has."""


class AnytimeCurve(AfterRanking):
    """`results/anytime.csv`: the most recent exit's accuracy at every budget. DaRe, 4.1.

    Args:
        budgets: Mul-Adds an image; None takes `points` from zero to past the last exit, and
            the exits' own costs.
    """

    def __init__(
        self, folder: Path | str, budgets: NonEmpty[MulAdds] | None = None, points: Points = 50
    ) -> None:
        super().__init__(folder)
        self.budgets, self.points = budgets, points

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        costs = evaluation.mul_adds
        budgets = self.budgets
        if budgets is None:
            even = np.linspace(0, 1.1 * max(costs.values()), self.points)
            budgets = sorted({*even.tolist(), *map(float, costs.values())})
        curve = anytime_curve(evaluation.rankings, costs, budgets)
        write_csv(self.results / "anytime.csv", curve)


class BudgetedStream(AfterRanking):
    """`results/stream.csv`: accuracy at a mean budget, by routing policy. DaRe, 4.2.

    Args:
        exits: by which a query may leave, cheapest first; None asks the method.
        policies: any of random, distance, margin, entropy, learned.
        budgets: mean Mul-Adds a query; None takes `points` from the first exit's cost to the
            last one's.
        candidates: where a policy looks for neighbours: `other_cameras`, `all`, or `oracle`
            (without the junk, which takes the query's label: for comparison only).
        thresholds: `online`, the paper's running quantile; `steered`, the same brought back to
            the plan where it strays; `fitted` on held-out people, which
            takes callbacks.thresholds, as does the policy `learned`. What a checkpoint has none
            for is left out with a warning.
        orders: in which the queries come: shuffled, by_identity, by_camera.
        gallery: on which it is decided who leaves: `whole`, or `reduced` to an image a person
            and camera.
        seed: shuffles the queries.

    Raises:
        BudgetError: unknown exit or unreachable budget, before the first batch.
    """

    def __init__(
        self,
        folder: Path | str,
        exits: DistinctNonEmpty[str] | None = None,
        policies: DistinctNonEmpty[Policy] = ("random", "distance", "margin", "entropy", "learned"),
        budgets: NonEmpty[MulAdds] | None = None,
        points: Points = 50,
        candidates: Candidates = "other_cameras",
        thresholds: DistinctNonEmpty[Thresholds] = ("online",),
        orders: DistinctNonEmpty[Order] = ("shuffled",),
        gallery: GallerySize = "whole",
        seed: Seed = 0,
    ) -> None:
        super().__init__(folder)
        self.exits, self.policies, self.budgets, self.points = exits, policies, budgets, points
        self.candidates, self.seed = candidates, seed
        self.thresholds, self.orders, self.gallery = thresholds, orders, gallery
        self._calibration: Calibration | None = None

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        fitted = [c for c in callbacks if isinstance(c, EarlyExitThresholds)]
        self._calibration = fitted[0].calibration if fitted else None
        if ranking_of(trainer, self).pca is not None:
            self._calibration = None  # it knows the embeddings as they leave the network
        super().on_test_epoch_end(trainer, pl_module)

    def check(self, mul_adds: dict[str, int], model: ReidModule) -> None:
        unknown = [name for name in self.exits or () if name not in mul_adds]
        if unknown:
            raise BudgetError(
                f"callbacks.stream.exits={list(self.exits or ())}: no exit is called "
                f"{', '.join(unknown)}; this network has {', '.join(mul_adds)}"
            )
        costs = [mul_adds[name] for name in self._exits(model)]
        if costs != sorted(costs):
            raise BudgetError(f"callbacks.stream.exits={self.exits}: give the cheapest first")
        try:
            check_budgets(costs, self.budgets or ())
        except ValueError as error:
            raise BudgetError(f"callbacks.stream.budgets={self.budgets}: {error}") from error

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        exits = self._exits(model)
        costs = [evaluation.mul_adds[name] for name in exits]
        if len(exits) < 2:
            return  # one exit: there is nothing to choose
        budgets = self.budgets or np.linspace(costs[0], costs[-1], self.points).tolist()
        known = self._known(evaluation, exits)
        rows = stream_sweep(
            evaluation,
            exits,
            [p for p in self.policies if known or p != "learned"],
            budgets,
            self.candidates,
            self.seed,
            known,
            [how for how in self.thresholds if known or how != "fitted"],
            self.orders,
            self.gallery,
        )
        if rows:  # none where all that was asked for had to be fitted
            write_csv(self.results / "stream.csv", rows)

    def _known(self, evaluation: Evaluation, exits: Sequence[str]) -> Calibration | None:
        """What was fitted, if it is of these exits and distances; else a warning."""
        known = self._calibration
        if known and (known.exits, known.metric) == (tuple(exits), evaluation.metric):
            return known
        if "learned" in self.policies or "fitted" in self.thresholds:
            rank_zero_warn(
                "stream: no learned policy and no fitted thresholds, since none were fitted for "
                f"exits {', '.join(exits)} and {evaluation.metric} distances without "
                "callbacks.ranking.pca: train to the end with callbacks.thresholds"
            )
        return None

    def _exits(self, model: ReidModule) -> Sequence[str]:
        return self.exits or model.stream_exits
