"""Budgeted stream: queries come one by one and the mean cost is fixed. DaRe, section 4.2."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from reid_lab.budget.policies import (
    Candidates,
    Lookup,
    Policy,
    sure_of,
)
from reid_lab.retrieval.embeddings import Exit, Ids
from reid_lab.retrieval.space import Metric

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def exit_shares(a: float, stages: int) -> Floats:
    """p_s = a^(s-1) / Z: the share of queries that leave at each of `stages`. Equation 3."""
    if np.isinf(a):
        return np.eye(stages)[-1]
    # the largest power is 1, so that none overflows
    powers = np.arange(stages) if a <= 1 else np.arange(1 - stages, 1)
    weights = np.power(float(a), powers) if a else np.eye(stages)[0]
    return weights / weights.sum()


def solve_a(costs: Floats, budget: float) -> float:
    """The `a` whose shares spend `budget` Mul-Adds a query on average.

    Args:
        costs: (S,) cumulative Mul-Adds of each exit, not falling.

    Raises:
        ValueError: the budget is below the first exit's cost or above the last one's.
    """
    first, last = costs[0], costs[-1]
    if not first <= budget <= last:
        raise ValueError(
            f"a mean budget of {budget:.4g} Mul-Adds cannot be met: the exits cost {first:.4g} to "
            f"{last:.4g}; choose one in between"
        )
    low, high = 0.0, 1.0  # of a / (1 + a), in which the mean cost grows from first to last
    for _ in range(64):
        middle = (low + high) / 2
        if exit_shares(_odds(middle), len(costs)) @ costs < budget:
            low = middle
        else:
            high = middle
    return _odds(high)


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else np.inf


def exit_probabilities(shares: Floats) -> Floats:
    """q_s = p_s / (1 - sum of the p before): the chance to leave for one that came so far."""
    remaining = 1 - np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    q = np.where(remaining > 1e-12, shares / np.maximum(remaining, 1e-12), 1.0)
    q[-1] = 1.0
    return np.minimum(q, 1.0)


class Rule(Interface):
    """Who leaves, asked exit by exit about the queries that came to it, in their order."""

    def leave(self, exit: int, sure: Floats, within: Floats) -> Mask:
        """(n,) whether each leaves by `exit`, which is not the last one.

        Args:
            sure: (n,) confidences, larger is easier.
            within: (n,) numbers drawn evenly from 0 to 1.
        """


class RunningQuantile:
    """A query leaves exit s if it is among the easiest q_s of those that came to s so far.

    Itself included. Its place among them is drawn evenly within its rank's interval: the share
    that leaves is q_s in expectation from the first query on. The places of independent queries
    are independent: after n of them the share strays by sqrt(q_s (1 - q_s) / n), and where
    queries drift it stays away. `horizon` steers it back, which the paper does not.

    Args:
        probabilities: (S,) q_s.
        horizon: queries in which a share that strayed is brought back; None is the paper's rule.
    """

    def __init__(self, probabilities: Floats, horizon: int | None = None) -> None:
        self.probabilities, self.horizon = probabilities, horizon
        self._seen: list[list[float]] = [[] for _ in probabilities]
        self._owed = np.zeros(len(probabilities))  # queries that should have left and did not

    def leave(self, exit: int, sure: Floats, within: Floats) -> Mask:
        seen, q = self._seen[exit], self.probabilities[exit]
        leaves = np.empty(len(sure), dtype=bool)
        for i, (value, place) in enumerate(zip((-sure).tolist(), within.tolist(), strict=True)):
            quantile = (bisect_right(seen, value) + place) / (len(seen) + 1)  # easiest first
            insort(seen, value)
            more = self._owed[exit] / self.horizon if self.horizon else 0.0
            leaves[i] = quantile < q + more
            self._owed[exit] += q - leaves[i]
        return leaves


class FixedThresholds:
    """A query leaves exit s if its confidence is at least `thresholds[s]`; see thresholds.py."""

    def __init__(self, thresholds: Sequence[float] | Floats) -> None:
        self.thresholds = np.asarray(thresholds, dtype=np.float64)

    def leave(self, exit: int, sure: Floats, within: Floats) -> Mask:
        return sure >= self.thresholds[exit]


class Draws:
    """The random numbers of a stream: the same for a query in whatever batch it comes."""

    def __init__(self, exits: int, seed: int) -> None:
        self._exits, self._rng = exits, np.random.default_rng(seed)

    def take(self, queries: int) -> tuple[Floats, Floats]:
        """(n, S) noise, which `random` is as sure as, and (n, S) for the rule, of the next n."""
        drawn = self._rng.random((queries, 2, self._exits))
        return drawn[:, 0], drawn[:, 1]


def route(
    confidences: Floats | None, rule: Rule, order: NDArray[np.intp], exits: int, seed: int
) -> NDArray[np.intp]:
    """(Q,) the exit that each query leaves by, from what was seen before it only.

    Args:
        confidences: (S, Q), larger is easier; None is noise.
        order: (Q,) the order in which the queries come.
    """
    noise, within = Draws(exits, seed).take(len(order))
    sure = noise.T if confidences is None else confidences[:, order]
    left = np.full(len(order), exits - 1)
    alive: np.ndarray = np.arange(len(order))
    for s in range(exits - 1):
        leaves = rule.leave(s, sure[s, alive], within[alive, s])
        left[order[alive[leaves]]] = s
        alive = alive[~leaves]
    return left


def confidence(
    exit: Exit,
    query: Ids,
    gallery: Ids,
    policy: Policy,
    candidates: Candidates = "other_cameras",
    metric: Metric = "euclidean",
) -> Floats:
    """(Q,) how sure an exit is of its answers to all queries; see policies.py.

    Raises:
        ValueError: `random`, which looks at nothing, and `learned`, which takes its model.
    """
    looks, _ = Lookup(exit.gallery, gallery, metric, candidates).looks(exit.query, query)
    return sure_of(policy, looks)
