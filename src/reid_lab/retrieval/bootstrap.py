"""Confidence intervals: how far an accuracy would move with other people in the test."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from reid_lab.retrieval.metrics import Ranking

RESAMPLES, LEVEL = 1000, 0.95
Unit = Literal["identities", "queries"]  # what is drawn


class Difference(NamedTuple):
    """A difference of two means and its confidence interval; nan if there is one unit."""

    value: float
    low: float
    high: float


def bootstrap(
    ranking: Ranking,
    pids: Tensor,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, float]:
    """Percentile intervals `rank1_low`, `rank1_high`, `mAP_low` and `mAP_high`.

    Identities are drawn with replacement, each with all of its answerable queries, since queries
    of one person are not independent. The gallery stays. nan where there are fewer than two
    identities.

    Args:
        pids: (Q,) of the queries.
        seed: of the draws; the same people and seed draw the same samples.
    """
    answerable = ranking.answerable.numpy()  # (T, Q)
    _, person = np.unique(pids.numpy(), return_inverse=True)
    counts = np.bincount(person, answerable.sum(0))
    people = counts > 0
    number = int(people.sum())
    metrics = {"rank1": (ranking.first < 1).numpy(), "mAP": ranking.ap.numpy()}
    if number < 2:
        return {f"{name}_{end}": math.nan for name in metrics for end in ("low", "high")}
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), resamples)
    drawn = draws @ counts[people]  # (resamples,) queries
    bounds: dict[str, float] = {}
    for name, values in metrics.items():
        sums = np.bincount(person, (values * answerable).sum(0))[people]
        tail = (1 - level) / 2
        low, high = np.quantile(draws @ sums / drawn, (tail, 1 - tail))
        bounds |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return bounds


class Resampler:
    """Draws of the same queries for many means: percentile intervals of paired differences.

    Args:
        pids: (Q,) of the queries.
        weights: (Q,) of the queries, such as the number of trials.
        unit: `queries` are drawn one by one; `identities` with all of their queries, which are
            not independent, so that intervals are wider.
        seed: of the draws.
    """

    def __init__(
        self,
        pids: np.ndarray,
        weights: np.ndarray,
        unit: Unit,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        self._weights, self._group = weights, _groups(pids, unit)
        counts = np.bincount(self._group, weights)
        number = len(counts)
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(number, np.full(number, 1 / number), resamples)
        self._draws = draws.astype(float)  # (B, U)
        self._drawn = self._draws @ counts  # (B,)

    def mean(self, values: np.ndarray, level: float = LEVEL) -> Difference:
        """The weighted mean of `values` (Q,), such as differences, with its interval."""
        weighted = values * self._weights
        value = float(weighted.sum() / self._weights.sum())
        if self._draws.shape[1] < 2:
            return Difference(value, math.nan, math.nan)
        found = self._draws @ np.bincount(self._group, weighted) / self._drawn
        tail = (1 - level) / 2
        low, high = np.quantile(found, (tail, 1 - tail))
        return Difference(value, float(low), float(high))


def _groups(pids: np.ndarray, unit: Unit) -> np.ndarray:
    """(Q,) the number of each query's unit."""
    groups = np.unique(pids, return_inverse=True)[1] if unit == "identities" else range(len(pids))
    return np.asarray(groups)


def paired_bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    pids: np.ndarray,
    weights: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    unit: Unit = "identities",
) -> Difference:
    """The mean of `a` minus the mean of `b` over the same queries, with a percentile interval.

    Units are drawn with replacement, the same ones for both sides. The runs of a side that
    has several are drawn, too, so that the interval covers the variance between seeds.

    Args:
        a, b: (R, Q) a value of each query in each of R runs; R may differ.
        pids: (Q,).
        weights: (Q,) of the queries, such as the number of trials; None: equal.
        unit: see Resampler.
    """
    number, person = np.unique(_groups(pids, unit), return_inverse=True)
    people = len(number)
    weights = np.ones(len(pids)) if weights is None else weights
    counts = np.bincount(person, weights)
    value = float(((a.mean(0) - b.mean(0)) @ weights) / weights.sum())
    if people < 2:
        return Difference(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(people, np.full(people, 1 / people), resamples)  # (B, P)
    means = []
    for side in (a, b):
        sums = np.stack([np.bincount(person, run * weights) for run in side], 1)  # (P, R)
        runs = rng.multinomial(len(side), np.full(len(side), 1 / len(side)), resamples)  # (B, R)
        means.append((draws @ sums * runs).sum(1) / len(side))
    tail = (1 - level) / 2
    found = (means[0] - means[1]) / (draws @ counts)
    low, high = np.quantile(found, (tail, 1 - tail))
    return Difference(value, float(low), float(high))
