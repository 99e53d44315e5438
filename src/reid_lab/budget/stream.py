"""Budgeted stream: queries arrive one by one under a fixed mean cost. DaRe, section 4.2.

Plain numpy: exit rules also drive an exported network (`reid_lab.runtime`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import Protocol as Interface

import numpy as np

from reid_lab.budget.router import Indices, Mask, route
from reid_lab.cost.currency import ExitCosts, Floats

HORIZON = 50  # queries over which a deviation from the planned shares is corrected


def exit_shares(a: float, stages: int) -> Floats:
    """p_s = a^(s-1) / Z: share of queries at each of `stages` exits, equation 3."""
    result: Floats
    if np.isinf(a):
        result = np.eye(stages)[-1]
        return result
    # the largest power is 1: no overflow
    powers = np.arange(stages) if a <= 1 else np.arange(1 - stages, 1)
    weights = np.power(float(a), powers) if a else np.eye(stages)[0]
    result = weights / weights.sum()
    return result


def solve_a(costs: Floats, budget: float, unit: str = "Mul-Adds") -> float:
    """Solve for the `a` of equation 3 whose shares cost `budget` per query on average.

    Args:
        costs: (S,) cumulative cost of each exit, ascending.
        budget: mean cost of a query.
        unit: unit of costs and budget, for messages; see currency.py.

    Raises:
        ValueError: the budget is below the first exit's cost or above the last one's.
    """
    check_budget(costs, budget, unit)
    low, high = 0.0, 1.0  # of a / (1 + a), in which the mean cost grows from first to last
    for _ in range(64):
        middle = (low + high) / 2
        if exit_shares(_odds(middle), len(costs)) @ costs < budget:
            low = middle
        else:
            high = middle
    return _odds(high)


def check_budget(costs: Floats, budget: float, unit: str) -> None:
    """Check that a mean budget can be met; see `solve_a`.

    Raises:
        ValueError: the budget is below the first exit's cost or above the last one's.
    """
    first, last = costs[0], costs[-1]
    if not first <= budget <= last:
        raise ValueError(
            f"a mean budget of {budget:.4g} {unit} cannot be met: the exits cost {first:.4g} to "
            f"{last:.4g}; choose a budget in between"
        )


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else np.inf


def mixed_shares(costs: Floats, budget: float, unit: str = "Mul-Adds") -> Floats:
    """(S,) shares of the two exits around `budget`, whose mean cost is `budget`.

    Queries that exit at either one at random have, in expectation, the accuracy of the straight
    line between the two: figure 6's baseline.

    Args:
        costs: (S,) cumulative cost of each exit, ascending.
        budget: mean cost of a query.
        unit: unit of costs and budget, for messages.

    Raises:
        ValueError: the budget is below the first exit's cost or above the last one's.
    """
    check_budget(costs, budget, unit)
    upper = max(int(np.searchsorted(costs, budget)), 1)  # the cheapest exit at `budget` or above
    lower = upper - 1
    between = costs[upper] - costs[lower]
    share = (budget - costs[lower]) / between if between else 1.0
    result = np.zeros(len(costs))
    result[lower], result[upper] = 1 - share, share
    return result


def exit_probabilities(shares: Floats) -> Floats:
    """q_s = p_s / (1 - sum of earlier p): probability of taking an exit that is reached."""
    remaining = 1 - np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    q = np.where(remaining > 1e-12, shares / np.maximum(remaining, 1e-12), 1.0)
    q[-1] = 1.0
    return np.minimum(q, 1.0)


def planned_rule(
    costs: ExitCosts, budget: float, decides: bool = True, horizon: int | None = HORIZON
) -> RunningQuantile:
    """The rule of a stream with geometric shares and a mean cost of `budget` per query.

    Args:
        costs: costs of the exits, in any currency.
        budget: mean cost of a query, in the unit of `costs`.
        decides: see `ExitCosts.totals`.
        horizon: see RunningQuantile.

    Raises:
        ValueError: the budget cannot be met.
    """
    shares = exit_shares(solve_a(costs.totals(decides), budget, costs.unit), len(costs.exits))
    return RunningQuantile(exit_probabilities(shares), horizon)


class ExitRule(Interface):
    """Decides, exit by exit, which of the remaining queries exit."""

    def exits_here(self, exit: int, confidence: Floats, within: Floats) -> Mask:
        """(n,) whether each remaining query exits at `exit`, which is never the last one.

        Args:
            confidence: (n,) larger is easier, in the order of arrival.
            within: (n,) uniform random numbers in [0, 1).
        """


class RunningQuantile:
    """A query exits at s if it is among the easiest share q_s of queries that reached s so far.

    The query itself counts. Its quantile is drawn uniformly within the interval of its rank, so
    that the expected share is q_s from the first query on. For independent queries the share
    deviates by sqrt(q_s (1 - q_s) / n) after n queries; under drift it is biased. `horizon`
    corrects that, which the paper does not.

    Args:
        probabilities: (S,) q_s.
        horizon: number of queries over which a deviation is corrected; None is the paper's rule.
        window: number of queries that an exit remembers, for changing `probabilities`; None: all.
    """

    def __init__(
        self, probabilities: Floats, horizon: int | None = None, window: int | None = None
    ) -> None:
        self.probabilities, self.horizon = probabilities, horizon
        self._arrived: list[deque[float]] = [deque(maxlen=window) for _ in probabilities]
        self._seen: list[list[float]] = [[] for _ in probabilities]  # sorted
        self._owed = np.zeros(len(probabilities))  # expected minus actual number of exits

    def exits_here(self, exit: int, confidence: Floats, within: Floats) -> Mask:
        seen, q = self._seen[exit], self.probabilities[exit]
        out = np.empty(len(confidence), dtype=bool)
        hardness = (-confidence).tolist()
        for i, (value, share) in enumerate(zip(hardness, within.tolist(), strict=True)):
            quantile = (bisect_right(seen, value) + share) / (len(seen) + 1)  # easiest first
            arrived = self._arrived[exit]
            if arrived.maxlen is not None:
                if len(arrived) == arrived.maxlen:
                    del seen[bisect_left(seen, arrived[0])]
                arrived.append(value)
            insort(seen, value)
            more = self._owed[exit] / self.horizon if self.horizon else 0.0
            out[i] = quantile < q + more
            self._owed[exit] += q - out[i]
        return out


class FixedExitThresholds:
    """A query exits at s if its confidence is at least `thresholds[s]`; see exit_calibration.py."""

    def __init__(self, thresholds: Sequence[float] | Floats) -> None:
        self.thresholds = np.asarray(thresholds, dtype=np.float64)

    def exits_here(self, exit: int, confidence: Floats, within: Floats) -> Mask:
        result: Mask = confidence >= self.thresholds[exit]
        return result


class Draws:
    """The random numbers of a stream; a query's do not depend on the batch it arrives in."""

    def __init__(self, exits: int, seed: int) -> None:
        self._exits, self._rng = exits, np.random.default_rng(seed)

    def take(self, queries: int) -> tuple[Floats, Floats]:
        """Draw for the next n queries: (n, S) noise as confidence and (n, S) for the exit rule."""
        drawn = self._rng.random((queries, 2, self._exits))
        return drawn[:, 0], drawn[:, 1]


def replay(
    confidences: Floats | None, rule: ExitRule, order: Indices, exits: int, seed: int
) -> Indices:
    """(Q,) exit of each query from stored confidences; later queries have no influence.

    Args:
        confidences: (S, Q), larger is easier; None is noise.
        order: (Q,) the order of arrival.
        exits: S, the number of exits.
        seed: random seed.
    """
    noise, within = Draws(exits, seed).take(len(order))  # (Q, S), in the order of arrival
    arriving = noise.T if confidences is None else confidences[:, order]  # (S, Q)
    exit_of = np.full(len(order), exits - 1)
    for exited in route(
        len(order),
        exits,
        lambda s, remaining, kept: arriving[s, remaining],
        lambda s, remaining, reached: rule.exits_here(s, reached, within[remaining, s]),
    ):
        exit_of[order[exited.queries]] = exited.exit
    return exit_of
