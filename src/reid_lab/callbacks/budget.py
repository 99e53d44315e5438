"""Budget sweeps after a test: the anytime curve and the budgeted stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.budget.anytime import anytime_curve
from reid_lab.budget.exit_calibration import ExitCalibration
from reid_lab.budget.policies import TEMPERATURE, Candidates, Policy
from reid_lab.budget.profile import ProfileError, profile_beside, read_costs
from reid_lab.budget.sweep import (
    ExitThresholds,
    GallerySize,
    Order,
    Shares,
    budget_range,
    check_budgets,
    stream_sweep,
)
from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.callbacks.early_exit import EarlyExitThresholds
from reid_lab.callbacks.embedding import callbacks_of
from reid_lab.cost.currency import Currency, ExitCosts
from reid_lab.dataset.datamodule import data_of
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.rows.budget import ANYTIME, POLICIES, STREAM
from reid_lab.retrieval import Evaluation
from reid_lab.retrieval.bootstrap import Unit
from reid_lab.types import (
    DistinctNonEmpty,
    MulAdds,
    NonEmpty,
    Points,
    Positive,
    Role,
    Seed,
    TimedBatchSize,
)

USUAL: tuple[Policy, ...] = ("random", "distance", "margin", "entropy")


class BudgetError(UserError):
    """An unknown exit, or a budget that the network cannot meet."""


class BudgetCurve(AfterRanking):
    """Base of budgets in Mul-Adds, or in milliseconds or joules of a profile of this machine.

    Args:
        cost: unit of the budgets: `mul_adds`, `latency` (milliseconds) or `energy` (joules). The
            last two need a profile of this machine.
        profile: file written by `reid-lab cost --profile FILE`; None: `profile.csv` beside the
            tested checkpoint.
        batch: queries at a time, a batch size of the profile.
        seed: random seed; None takes the data module's.
    """

    key = ""  # of the callback in a config

    def __init__(
        self, cost: Currency, profile: str | None, batch: int, seed: Seed | None = None
    ) -> None:
        super().__init__(seed)
        self.cost, self.profile, self.batch = cost, profile, batch
        self.measured: ExitCosts | None = None  # of all exits; None is Mul-Adds

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.cost != "mul_adds":
            counted = ranking_of(trainer, self).mul_adds
            names = cast(ReidModule, pl_module).exit_names
            try:
                self.measured = self._read({name: counted[name] for name in names}, trainer)
            except ProfileError as error:
                raise BudgetError(f"callbacks.{self.key}.cost={self.cost}: {error}") from error
        super().setup(trainer, pl_module, stage)

    def _read(self, mul_adds: Mapping[str, int], trainer: pl.Trainer) -> ExitCosts:
        checkpoint = trainer.ckpt_path
        if self.profile is None and checkpoint is None:
            raise ProfileError(
                "there is no checkpoint yet, beside which a profile could be: give "
                f"callbacks.{self.key}.profile=FILE, which `reid-lab cost ... --profile FILE` "
                "measures for the same overrides"
            )
        path = Path(self.profile) if self.profile else profile_beside(Path(str(checkpoint)))
        gallery, device = len(data_of(trainer).splits("test")[1]), trainer.strategy.root_device
        precision = str(trainer.precision)
        return read_costs(path, self.cost, mul_adds, device, self.batch, gallery, precision)


class AnytimeCurve(BudgetCurve):
    """Adds `anytime.csv`: accuracy of the most recent exit at every budget. DaRe, 4.1.

    Args:
        budgets: cost of one view of an image, in Mul-Adds or in the unit of `cost`; None takes
            `points` from zero to past the last exit, and the exits' own costs.
        points: number of budgets, if they are not given.
        cost, profile, batch: see `BudgetCurve`.
    """

    key = "anytime"

    def __init__(
        self,
        budgets: NonEmpty[MulAdds] | None = None,
        points: Points = 50,
        cost: Currency = "mul_adds",
        profile: str | None = None,
        batch: TimedBatchSize = 1,
    ) -> None:
        super().__init__(cost, profile, batch)
        self.budgets, self.points = budgets, points

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        mul_adds, measured = evaluation.mul_adds, self.measured
        costs = measured.by_exit() if measured else mul_adds
        budgets = self.budgets
        if budgets is None:
            even = np.linspace(0, 1.1 * max(costs.values()), self.points)
            budgets = sorted({*even.tolist(), *map(float, costs.values())})
        bounds = evaluation.intervals()
        curve = anytime_curve(evaluation.rankings, mul_adds, budgets, measured, bounds)
        results.anytime = ANYTIME.of(curve)


class StreamCurve(BudgetCurve):
    """Adds `stream.csv` and `policies.csv`: accuracy at mean budgets, by policy. DaRe, 4.2.

    Policies are compared with `random`, figure 6's baseline: a query exits at random at one of
    the two exits around the budget.

    Args:
        exits: exits that a query may take, cheapest first; None takes the method's.
        policies: ways to choose the queries that exit early; see budget/policies.py. All but
            `random` and `geometric` look at the query. None takes `random`, `distance`, `margin`,
            `entropy` and, where thresholds are fitted, `learned`.
        budgets: mean cost of one view of a query, in Mul-Adds or in the unit of `cost`; None
            takes `points` from the first exit's cost to the last one's.
        points: number of budgets, if they are not given.
        candidates: where a policy looks for neighbours: `other_cameras`, `all`, `others`
            (without the query's own image), or `oracle` (without the images of the query's person
            in its camera, which needs the query's label: for comparison only).
        thresholds: `online`, the paper's running quantile; `steered`, the same with drift from the
            planned budget corrected; `fitted` on held-out people. `fitted` and the policy `learned`
            need the thresholds that callbacks.exit_thresholds fits on the people of
            dataset.val_identities; if they are asked for and the checkpoint has none, they are left
            out with a warning.
        orders: orders of arrival of the queries; `by_identity` and `by_camera` show the effect of
            drift.
        gallery: images that decide which queries exit: `whole`, or `reduced` to one image per
            person and camera.
        shares: planned fraction of queries at each exit: `geometric`, at all exits (equation 3),
            or `adjacent`, at the two exits around the budget as `random`, so that a larger budget
            does not use an exit that finds nobody.
        temperature: temperature of the softmax over the nearest images in the policies `entropy`
            and `learned`, in units of the nearest distance. Fitted thresholds need the same one
            (`callbacks.exit_thresholds.temperature`).
        resample: what the paired bootstrap of the differences draws: `queries`, or `identities`
            with all of their queries.
        seed: random seed of the order of the queries; None takes the data module's.
        cost, profile, batch: see `BudgetCurve`; in milliseconds and joules, the searches of the
            gallery are a part of the cost.

    Raises:
        BudgetError: unknown exit, unreachable budget or no profile, before the first batch.
    """

    role: Role = "ranking"
    key = "stream"

    def __init__(
        self,
        exits: DistinctNonEmpty[str] | None = None,
        policies: DistinctNonEmpty[Policy] | None = None,
        budgets: NonEmpty[MulAdds] | None = None,
        points: Points = 50,
        candidates: Candidates = "other_cameras",
        thresholds: DistinctNonEmpty[ExitThresholds] = ("online",),
        orders: DistinctNonEmpty[Order] = ("shuffled",),
        gallery: GallerySize = "whole",
        shares: Shares = "geometric",
        resample: Unit = "queries",
        seed: Seed | None = None,
        cost: Currency = "mul_adds",
        profile: str | None = None,
        batch: TimedBatchSize = 1,
        temperature: Positive = TEMPERATURE,
    ) -> None:
        super().__init__(cost, profile, batch, seed)
        self.temperature = temperature
        self.exits, self.budgets, self.points = exits, budgets, points
        self.policies: Sequence[Policy] = policies or USUAL
        self.learns = policies is None  # as soon as there is a model for it
        self.candidates, self.thresholds = candidates, thresholds
        self.orders, self.gallery, self.resample = orders, gallery, resample
        self.shares: Shares = shares
        self._exit_calibration: ExitCalibration | None = None

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fitted = callbacks_of(trainer, EarlyExitThresholds)
        self._exit_calibration = fitted[0].exit_calibration if fitted else None
        if ranking_of(trainer, self).pca is not None:
            self._exit_calibration = None  # it was fitted on embeddings without a projection
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
        if self.cost != "mul_adds" and self.gallery != "whole":
            raise BudgetError(
                f"callbacks.stream.gallery={self.gallery}: a profile has the cost of searching "
                f"the whole gallery; with cost={self.cost} give gallery=whole"
            )
        if self.cost != "mul_adds" and self.measured is None:
            return  # the config's check comes before the profile is read
        prices = self._prices(mul_adds, model)
        try:
            check_budgets(prices, self.policies, self.budgets or ())
        except ValueError as error:
            raise BudgetError(f"callbacks.stream.budgets={self.budgets}: {error}") from error

    def _prices(self, mul_adds: Mapping[str, int], model: ReidModule) -> ExitCosts:
        return (self.measured or ExitCosts.of_mul_adds(mul_adds)).select(self._exits(model))

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        exits = self._exits(model)
        if len(exits) < 2:
            return  # one exit: nothing to decide
        prices = self._prices(evaluation.mul_adds, model)
        range_ = budget_range(prices, self.policies)
        budgets = self.budgets or np.linspace(*range_, self.points).tolist()
        known = self._known(evaluation, exits)
        policies = [p for p in self.policies if known or p != "learned"]
        policies += ["learned"] if known and self.learns else []
        swept = stream_sweep(
            evaluation,
            exits,
            policies,
            budgets,
            candidates=self.candidates,
            seed=self.seed or 0,
            exit_calibration=known,
            thresholds=[how for how in self.thresholds if known or how != "fitted"],
            orders=self.orders,
            gallery=self.gallery,
            unit=self.resample,
            shares=self.shares,
            measured=prices if self.measured else None,
            temperature=self.temperature,
        )
        results.stream = STREAM.of(swept.rows)
        results.policy_gains = POLICIES.of(swept.policies)

    def _known(self, evaluation: Evaluation, exits: Sequence[str]) -> ExitCalibration | None:
        """The fitted thresholds if they are of these exits and metric; else warn."""
        known = self._exit_calibration
        wanted = (tuple(exits), evaluation.metric, self.temperature)
        if known and (known.exits, known.metric, known.temperature) == wanted:
            return known
        if "learned" in self.policies or "fitted" in self.thresholds:
            rank_zero_warn(
                "stream: no learned policy and no fitted thresholds, since none were fitted for "
                f"exits {', '.join(exits)} and {evaluation.metric} distances without "
                f"callbacks.ranking.pca, at temperature {self.temperature:g}: train to the end "
                "with callbacks.exit_thresholds and people held out for them, "
                "dataset.val_identities=N"
            )
        return None

    def _exits(self, model: ReidModule) -> Sequence[str]:
        return self.exits or model.stream_exits
