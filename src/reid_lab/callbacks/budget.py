"""Budget sweeps after a test: the anytime curve and the budgeted stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.budget.anytime import anytime_curve
from reid_lab.budget.policies import Candidates, Policy
from reid_lab.budget.sweep import (
    GallerySize,
    Order,
    Shares,
    Thresholds,
    check_budgets,
    stream_sweep,
)
from reid_lab.budget.thresholds import Calibration
from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.callbacks.early_exit import EarlyExitThresholds
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.rows import ANYTIME, POLICIES, STREAM
from reid_lab.retrieval import Evaluation
from reid_lab.retrieval.bootstrap import Unit
from reid_lab.types import DistinctNonEmpty, MulAdds, NonEmpty, Points, Seed


class BudgetError(UserError):
    """An unknown exit, or a budget that the network cannot meet."""


class AnytimeCurve(AfterRanking):
    """Adds the accuracy of the most recent exit at every budget: `anytime.csv`. DaRe, 4.1.

    Args:
        budgets: Mul-Adds of one view of an image; None takes `points` from zero to past the last
            exit, and the exits' own costs.
    """

    def __init__(self, budgets: NonEmpty[MulAdds] | None = None, points: Points = 50) -> None:
        super().__init__()
        self.budgets, self.points = budgets, points

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        costs = evaluation.mul_adds
        budgets = self.budgets
        if budgets is None:
            even = np.linspace(0, 1.1 * max(costs.values()), self.points)
            budgets = sorted({*even.tolist(), *map(float, costs.values())})
        curve = anytime_curve(evaluation.rankings, costs, budgets)
        results.anytime = ANYTIME.of(curve)


class StreamCurve(AfterRanking):
    """Adds the accuracy at a mean budget, by policy: `stream.csv`, `policies.csv`. DaRe, 4.2.

    Policies are compared with `random`, figure 6's baseline: a query exits at random at one of
    the two exits around the budget.

    Args:
        exits: where a query may exit, cheapest first; None takes the method's.
        policies: any of random, geometric, distance, margin, entropy, learned; see
            budget/policies.py.
        budgets: mean Mul-Adds of one view of a query; None takes `points` from the first exit's
            cost to the last one's.
        candidates: where a policy looks for neighbours: `other_cameras`, `all`, or `oracle`
            (without junk images, which needs the query's label: for comparison only).
        thresholds: `online`, the paper's running quantile; `steered`, the same brought back to
            the planned budget where it drifts; `fitted` on held-out people. `fitted` and the
            policy `learned` need callbacks.thresholds; where a checkpoint has no thresholds they
            are left out with a warning.
        orders: in which the queries come: shuffled, by_identity, by_camera.
        gallery: used to decide which queries exit: `whole`, or `reduced` to an image a person
            and camera.
        shares: of the queries that exit at each exit: `geometric`, at all exits (equation 3), or
            `adjacent`, at the two exits around the budget as `random`, so that a budget above an
            exit that finds nobody does not use it.
        resample: what the paired bootstrap of the differences draws: `queries`, or `identities`
            with all of their queries.
        seed: of the order of the queries.

    Raises:
        BudgetError: unknown exit or unreachable budget, before the first batch.
    """

    def __init__(
        self,
        exits: DistinctNonEmpty[str] | None = None,
        policies: DistinctNonEmpty[Policy] = ("random", "distance", "margin", "entropy", "learned"),
        budgets: NonEmpty[MulAdds] | None = None,
        points: Points = 50,
        candidates: Candidates = "other_cameras",
        thresholds: DistinctNonEmpty[Thresholds] = ("online",),
        orders: DistinctNonEmpty[Order] = ("shuffled",),
        gallery: GallerySize = "whole",
        shares: Shares = "geometric",
        resample: Unit = "queries",
        seed: Seed | None = None,
    ) -> None:
        super().__init__(seed)
        self.exits, self.policies, self.budgets, self.points = exits, policies, budgets, points
        self.candidates, self.thresholds = candidates, thresholds
        self.orders, self.gallery, self.resample = orders, gallery, resample
        self.shares: Shares = shares
        self._calibration: Calibration | None = None

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        fitted = [c for c in callbacks if isinstance(c, EarlyExitThresholds)]
        self._calibration = fitted[0].calibration if fitted else None
        if ranking_of(trainer, self).pca is not None:
            self._calibration = None  # it was fitted on embeddings without a projection
        super().on_test_epoch_end(trainer, pl_module)

    def check(self, mul_adds: dict[str, int], model: ReidModule) -> None:
        unknown = [name for name in self.exits or () if name not in mul_adds]
        if unknown:
            raise BudgetError(
                f"callbacks.stream.exits={list(self.exits or ())}: unknown exit "
                f"{', '.join(unknown)}; available: {', '.join(mul_adds)}"
            )
        costs = [mul_adds[name] for name in self._exits(model)]
        if costs != sorted(costs):
            raise BudgetError(f"callbacks.stream.exits={self.exits}: give the cheapest first")
        try:
            check_budgets(costs, self.budgets or ())
        except ValueError as error:
            raise BudgetError(f"callbacks.stream.budgets={self.budgets}: {error}") from error

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        exits = self._exits(model)
        costs = [evaluation.mul_adds[name] for name in exits]
        if len(exits) < 2:
            return  # one exit: nothing to decide
        budgets = self.budgets or np.linspace(costs[0], costs[-1], self.points).tolist()
        known = self._known(evaluation, exits)
        swept = stream_sweep(
            evaluation,
            exits,
            [p for p in self.policies if known or p != "learned"],
            budgets,
            self.candidates,
            self.seed or 0,
            known,
            [how for how in self.thresholds if known or how != "fitted"],
            self.orders,
            self.gallery,
            self.resample,
            self.shares,
        )
        results.stream = STREAM.of(swept.rows)
        results.policy_gains = POLICIES.of(swept.policies)

    def _known(self, evaluation: Evaluation, exits: Sequence[str]) -> Calibration | None:
        """The fitted thresholds, if they are of these exits and this metric; else a warning."""
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
