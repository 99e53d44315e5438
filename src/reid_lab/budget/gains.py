"""Accuracy of a policy and its gain over random exits at the same cost, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from reid_lab.budget.policies import NOISE, Policy
from reid_lab.budget.router import Indices
from reid_lab.budget.stream import mixed_shares
from reid_lab.cost.currency import Floats
from reid_lab.results.rows.budget import Routing
from reid_lab.retrieval.bootstrap import Resampler, Unit
from reid_lab.retrieval.evaluation import Evaluation

BASELINE: Policy = "random"
Row = dict[str, Any]
Gains = Mapping[str, Floats]  # metric -> (Q',) a query's gain, or its score


class Baseline:
    """The policy `random` in expectation: the straight lines between the exits of figure 6.

    A gain is the difference between a query's score under a policy and its mean score under
    `random` at the policy's realised mean cost. Queries without a match are left out.

    Args:
        exits: exits that queries may take, cheapest first.
        unit: unit of the paired bootstrap of gains; that of accuracies draws identities, the same
            as for the exits.
        seed: random seed of the bootstrap samples, the same for all policies and budgets.
        costs: (S,) cost of a query of `random` at each exit; None takes the Mul-Adds.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        exits: Sequence[str],
        unit: Unit,
        seed: int,
        costs: Floats | None = None,
    ) -> None:
        rankings = [evaluation.rankings[name] for name in exits]
        weights = rankings[0].answerable.sum(0).numpy()  # (Q,) trials
        self._known = weights > 0
        answerable = rankings[0].answerable.numpy()  # (T, Q)

        def means(values: list[np.ndarray]) -> Floats:
            sums = np.stack([(x * answerable).sum(0)[self._known] for x in values])
            result: Floats = sums / weights[self._known]
            return result

        self._scores = {  # (S, Q')
            "rank1": means([(r.first < 1).numpy() for r in rankings]),
            "mAP": means([r.ap.numpy() for r in rankings]),
        }
        pids = evaluation.embeddings.query.pids.numpy()[self._known]
        trials = weights[self._known].astype(float)
        self._resampler = Resampler(pids, trials, unit, seed=seed)
        self._people = Resampler(pids, trials)
        counted = [evaluation.embeddings.exits[name].mul_adds for name in exits]
        self._costs = np.array(counted, float) if costs is None else costs

    def gains(self, exit_of: Indices, spent: float | None = None) -> Gains:
        """Gains of all queries with a match.

        Args:
            exit_of: (Q,) index of each query's exit.
            spent: mean cost per query; None takes that of `random` at these exits.
        """
        costs = self._costs
        mean = costs[exit_of].mean() if spent is None else spent
        realised = float(np.clip(mean, costs[0], costs[-1]))
        mix = mixed_shares(costs, realised)
        scores = self._at(exit_of)
        return {name: scores[name] - mix @ self._scores[name] for name in scores}

    def over_last(self, exit_of: Indices) -> Gains:
        """Each query's scores at its exit less those at the last exit, whatever the costs."""
        scores = self._at(exit_of)
        return {name: scores[name] - self._scores[name][-1] for name in scores}

    def accuracies(self, exits_of: Sequence[Indices]) -> list[Row]:
        """rank1 and mAP if query i exits at `exit_of[i]`, (Q,) each, with confidence intervals."""
        return self._people.table([self._at(exit_of) for exit_of in exits_of])

    def columns(self, gains: Sequence[Gains], name: str = "gain") -> list[Row]:
        """Means and intervals, as `rank1_gain`, `rank1_gain_low` and `rank1_gain_high`."""
        return self._resampler.table([{f"{k}_{name}": x for k, x in own.items()} for own in gains])

    def _at(self, exit_of: Indices) -> Gains:
        """Each query's scores at its exit."""
        chosen = exit_of[self._known][None]
        return {k: np.take_along_axis(x, chosen, 0)[0] for k, x in self._scores.items()}


def compare_policies(
    rows: Sequence[Row], means: Mapping[Routing, Gains], baseline: Baseline, last: float
) -> list[Row]:
    """Compare each policy with `random`, and policies that read confidences with each other.

    Args:
        rows: rows of the stream.
        means: how the stream is routed -> the mean gains over the budgets.
        last: Rank-1 of the last exit.
    """
    found = []
    by = {routing: [row for row in rows if _is_of(row, routing)] for routing in means}
    for routing, gains in means.items():
        own = by[routing]
        reached = [row["realised"] for row in own if row["rank1"] >= last - 1e-6]
        found.append(
            {
                **routing._asdict(),
                "against": BASELINE,
                "budgets": len(own),
                **baseline.columns([gains])[0],
                "rank1_gain_least": min(row["rank1_gain"] for row in own),
                "reaches_last": min(reached, default=math.nan),
                "deviation": max(abs(_off_the_plan(row)) for row in own),
            }
        )
    reading = [routing for routing in means if routing.policy not in NOISE]
    for one, other in combinations(reading, 2):
        if one == other._replace(policy=one.policy):
            difference = {k: means[one][k] - means[other][k] for k in means[one]}
            (columns,) = baseline.columns([difference])
            compared = {"against": other.policy, "budgets": len(by[one])}
            found.append({**one._asdict(), **compared, **columns})
    return found


def _is_of(row: Row, routing: Routing) -> bool:
    return all(row[name] == value for name, value in routing._asdict().items())


def _off_the_plan(row: Row) -> float:
    """Relative deviation from the planned cost, in the currency of the budgets."""
    if "budget" in row:
        return float(row["spent"] / row["budget"] - 1)
    return float(row["realised"] / row["planned"] - 1)
