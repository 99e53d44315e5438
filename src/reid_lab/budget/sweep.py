"""The budgeted stream replayed over stored embeddings, for many budgets and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid_lab.budget.exit_calibration import ExitCalibration
from reid_lab.budget.gains import Baseline, Gains, compare_policies
from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import (
    NEEDS,
    NOISE,
    TEMPERATURE,
    Candidates,
    Lookup,
    Policy,
    candidates_under,
    confidence_of,
    lookups_of,
    one_image_per_camera,
)
from reid_lab.budget.stream import (
    HORIZON,
    ExitRule,
    RunningQuantile,
    check_budget,
    exit_probabilities,
    exit_shares,
    mixed_shares,
    replay,
    solve_a,
)
from reid_lab.cost.currency import ExitCosts, Floats
from reid_lab.results.rows.budget import Routing
from reid_lab.retrieval.bootstrap import Unit
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.evaluation import Evaluation

ExitThresholds = Literal["online", "steered", "fitted"]
Order = Literal["shuffled", "by_identity", "by_camera"]
GallerySize = Literal["whole", "reduced"]
Shares = Literal["geometric", "adjacent"]


def check_budgets(costs: ExitCosts, policies: Sequence[Policy], budgets: Sequence[float]) -> None:
    """Check that every policy can meet every mean budget.

    Raises:
        ValueError: the first budget that cannot be met and the possible range are named.
    """
    for policy, budget in product(policies, budgets):
        check_budget(costs.totals(policy not in NOISE), budget, costs.unit)


def budget_range(costs: ExitCosts, policies: Sequence[Policy]) -> tuple[float, float]:
    """The smallest and the largest mean budget that all policies can meet."""
    totals = [costs.totals(policy not in NOISE) for policy in policies]
    return max(float(t[0]) for t in totals), min(float(t[-1]) for t in totals)


@dataclass(frozen=True)
class StreamSweep:
    """`rows`: one per policy and budget; `policies`: one per pair of policies, over all budgets."""

    rows: list[dict[str, Any]]
    policies: list[dict[str, Any]]


def planned_shares(
    policy: Policy,
    costs: Floats,
    budget: float,
    shares: Shares,
    unit: str,
) -> tuple[Floats, float]:
    """(S,) share of queries at each exit, and the `a` of geometric shares.

    `a` is nan if the two exits around the budget are mixed, as always by `random`.

    Args:
        costs: (S,) cumulative cost of each exit, ascending.
        budget: mean cost of a query.
        shares: `geometric` as in equation 3, or `adjacent`: those of the two exits around
            the budget.
        unit: unit of costs and budget, for messages.
    """
    if policy == "random" or shares == "adjacent":
        return mixed_shares(costs, budget, unit), np.nan
    a = solve_a(costs, budget, unit)
    return exit_shares(a, len(costs)), a


def stream_sweep(
    evaluation: Evaluation,
    exits: Sequence[str],
    policies: Sequence[Policy],
    budgets: Sequence[float],
    *,
    candidates: Candidates = "other_cameras",
    seed: int = 0,
    exit_calibration: ExitCalibration | None = None,
    thresholds: Sequence[ExitThresholds] = ("online",),
    orders: Sequence[Order] = ("shuffled",),
    gallery: GallerySize = "whole",
    unit: Unit = "queries",
    shares: Shares = "geometric",
    measured: ExitCosts | None = None,
    temperature: float = TEMPERATURE,
) -> StreamSweep:
    """One row per policy and budget: planned and realised mean Mul-Adds, rank1, mAP, shares.

    With `measured` costs, also the planned and the realised mean in their unit (`budget` and
    `spent`), which is what the shares are solved for; matching is then a part of the cost.

    `rank1_gain` and `mAP_gain` are the differences to `random` at the realised cost, see
    gains.py, `rank1_over_last` and `mAP_over_last` those to the last exit. `*_low` and `*_high`
    are confidence intervals; those of accuracies resample identities. `matching` is the mean number
    of Mul-Adds of distances, for decisions and answers, on top of the network's. Queries without a
    match are part of the stream but excluded from the means.

    Args:
        evaluation: embeddings and rankings of every exit.
        exits: exits that queries may take, cheapest first.
        policies: see policies.py.
        budgets: mean cost per query, in Mul-Adds or in the unit of `measured`.
        candidates: see Lookup.
        seed: random seed of the shuffle and of random policies.
        exit_calibration: needed by `fitted` thresholds and by the policy `learned`.
        thresholds: `online` is the paper's running quantile, `steered` the same with its
            deviations corrected; `fitted` are those of `exit_calibration`.
        orders: orders of arrival; sorted ones show the effect of drift.
        gallery: searched for the decisions; `reduced` has one image per person and camera.
        unit: what the bootstrap of the gains draws.
        shares: see `planned_shares`.
        measured: costs of `exits` from a profile; None takes the Mul-Adds of `evaluation`.
        temperature: see Lookup.

    Raises:
        ValueError: a budget that cannot be met.
    """
    e = evaluation.embeddings
    candidates = candidates_under(evaluation.protocol, candidates)
    counted = ExitCosts.of_mul_adds({name: e.exits[name].mul_adds for name in exits})
    prices = measured or counted
    reduced = one_image_per_camera(e.gallery) if gallery == "reduced" else None
    lookups = lookups_of(e, exits, evaluation.metric, candidates, reduced, temperature)
    models = exit_calibration.models if exit_calibration else {}
    confidences = _confidences(evaluation, lookups, policies, models)
    baseline = Baseline(evaluation, exits, unit, seed, prices.totals(decides=False))
    rows: list[dict[str, Any]] = []
    means: dict[Routing, Gains] = {}
    for order, how, policy in product(orders, thresholds, policies):
        routing = Routing(policy, how, order, prices.currency)
        costs = prices.totals(policy not in NOISE)
        matching = _matching(evaluation, lookups, policy, gallery)
        arrival = in_order(order, e.query, seed)
        plans = [planned_shares(policy, costs, x, shares, prices.unit) for x in budgets]
        rules = (_rule(how, policy, exit_probabilities(p), exit_calibration) for p, _ in plans)
        exits_of = [
            replay(confidences[policy], rule, arrival, len(exits), seed) for rule in rules
        ]  # (Q,) each
        spent = [float(costs[exit_of].mean()) for exit_of in exits_of]
        gains = [baseline.gains(*each) for each in zip(exits_of, spent, strict=True)]
        columns = zip(
            budgets,
            plans,
            exits_of,
            spent,
            baseline.accuracies(exits_of),
            baseline.columns(gains),
            baseline.columns([baseline.over_last(exit_of) for exit_of in exits_of], "over_last"),
            strict=True,
        )
        for budget, (planned, a), exit_of, cost, accuracy, gain, over_last in columns:
            row = {**routing._asdict(), "a": a}
            row |= _means(counted, exit_of, matching)
            row["planned"] = float(planned @ counted.network) if measured else float(budget)
            if measured:
                row |= {"budget": float(budget), "spent": cost}
            rows.append(row | accuracy | gain | over_last)
        means[routing] = _mean(gains)
    last = evaluation.rankings[exits[-1]].rank1
    return StreamSweep(rows, compare_policies(rows, means, baseline, last))


def _means(counted: ExitCosts, exit_of: NDArray[np.intp], matching: Floats) -> dict[str, float]:
    """Mean Mul-Adds per query of the network and of the distances, and the shares of the exits."""
    shares = {f"share_{name}": float((exit_of == s).mean()) for s, name in enumerate(counted.exits)}
    realised, distances = float(counted.network[exit_of].mean()), float(matching[exit_of].mean())
    return {"realised": realised, "matching": distances, **shares}


def _mean(gains: Sequence[Gains]) -> Gains:
    return {k: np.mean([g[k] for g in gains], axis=0) for k in gains[0]}


def in_order(order: Order, query: Ids, seed: int) -> NDArray[np.intp]:
    """(Q,) order of arrival: shuffled, then sorted by the key of `order`."""
    shuffled = np.random.default_rng(seed).permutation(len(query))
    if order == "shuffled":
        return shuffled
    keys = (query.pids if order == "by_identity" else query.camids).numpy()
    return shuffled[np.argsort(keys[shuffled], kind="stable")]


def _confidences(
    evaluation: Evaluation,
    lookups: Mapping[str, Lookup],
    policies: Sequence[Policy],
    models: Mapping[str, Logistic],
) -> dict[Policy, Floats | None]:
    """Policy -> (S, Q); each exit's gallery is searched once for all policies. None is noise."""
    needs = tuple(dict.fromkeys(need for policy in policies for need in NEEDS[policy]))
    columns: dict[Policy, list[Floats]] = {policy: [] for policy in policies if policy not in NOISE}
    for name, lookup in lookups.items() if columns else ():
        e = evaluation.embeddings
        features, _ = lookup.features(e.exits[name].query, e.query, needs)
        for policy, column in columns.items():
            column.append(confidence_of(policy, features, models.get(name)))
    found: dict[Policy, Floats | None] = {p: np.stack(column) for p, column in columns.items()}
    return {policy: found.get(policy) for policy in policies}


def _rule(
    how: ExitThresholds, policy: Policy, q: Floats, exit_calibration: ExitCalibration | None
) -> ExitRule:
    if how != "fitted":
        return RunningQuantile(q, HORIZON if how == "steered" else None)
    if exit_calibration is None:
        raise ValueError("fitted thresholds need an exit_calibration")
    return exit_calibration.rule(policy, q)


def _matching(
    evaluation: Evaluation, lookups: Mapping[str, Lookup], policy: Policy, gallery: GallerySize
) -> Floats:
    """(S,) Mul-Adds of the distances for a query that takes each exit."""
    whole = [evaluation.embeddings.exits[name].gallery.numel() for name in lookups]
    searched = [0 if policy in NOISE else lookup.mul_adds for lookup in lookups.values()]
    before = np.concatenate([[0], np.cumsum(searched[:-1])]).astype(float)
    own = np.array(searched[:-1] + [0]) if gallery == "reduced" else 0
    result: Floats = before + own + np.array(whole)
    return result
