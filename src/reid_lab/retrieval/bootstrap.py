"""Confidence intervals: how far an accuracy would move with other people in the test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from reid_lab.retrieval.accuracies import ACCURACIES

if TYPE_CHECKING:  # torch is slow to import, and comparing runs does not need it
    from torch import Tensor

    from reid_lab.retrieval.metrics import Ranking

RESAMPLES, LEVEL = 1000, 0.95
Unit = Literal["identities", "queries"]  # what is drawn


class Difference(NamedTuple):
    """A difference of two means and its confidence interval; nan if there is only one unit."""

    value: float
    low: float
    high: float


def bootstrap(
    ranking: Ranking,
    pids: Tensor,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    metrics: Sequence[str] = ("rank1", "mAP"),
) -> dict[str, float]:
    """Percentile intervals `rank1_low`, `rank1_high`, `mAP_low` and `mAP_high`.

    Identities are drawn with replacement, each with all of its answerable queries, since queries of
    one person are not independent. The gallery and the network are fixed: the variance between
    training seeds is not covered. nan where there are fewer than two identities.

    Args:
        pids: (Q,) pids of the queries.
        seed: random seed of the bootstrap samples; the same people and seed give the same samples.
        metrics: names of `Ranking.summary`.
    """
    return Resampler.of(ranking, pids, resamples, seed).bounds(ranking, metrics, level)


class Resampler:
    """Bootstrap samples of queries, shared by many means, with percentile intervals.

    Args:
        pids: (Q,) pids of the queries.
        weights: (Q,) weights of the queries, such as their number of trials; queries with 0 are
            left out.
        unit: `queries` are drawn one by one; `identities` with all of their queries, which are
            not independent, so that intervals are wider.
        seed: random seed of the bootstrap samples.
    """

    def __init__(
        self,
        pids: np.ndarray,
        weights: np.ndarray,
        unit: Unit = "identities",
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        self._weights, self._group = weights, _groups(pids, unit)
        counts = np.bincount(self._group, weights)
        self._kept = counts > 0  # (U,)
        number = int(self._kept.sum())
        self._draws = draw(number, resamples, seed)  # (B, U')
        self._drawn = self._draws @ counts[self._kept]  # (B,)

    @classmethod
    def of(
        cls, ranking: Ranking, pids: Tensor, resamples: int = RESAMPLES, seed: int = 0
    ) -> Resampler:
        """Resample the answerable queries of a ranking by identity, for all rankings of them."""
        trials = ranking.answerable.sum(0).double()
        return cls(pids.numpy(), trials.numpy(), "identities", resamples, seed)

    def bounds(
        self, ranking: Ranking, metrics: Sequence[str] = ACCURACIES, level: float = LEVEL
    ) -> dict[str, float]:
        """Intervals `rank1_low`, `rank1_high`, ... of a ranking of the same queries."""
        scores = ranking.scores()
        means = {name: _mean_of_trials(scores[name], ranking) for name in metrics}
        return {name: x for name, x in self.table([means], level)[0].items() if name not in metrics}

    def table(
        self, rows: Sequence[Mapping[str, np.ndarray]], level: float = LEVEL
    ) -> list[dict[str, float]]:
        """The weighted means of each row's values (Q,), as `NAME`, `NAME_low` and `NAME_high`.

        All rows are computed by one product of the samples and the sums of each unit.
        """
        weighted = [values * self._weights for row in rows for values in row.values()]
        if not weighted:
            return [{} for _ in rows]
        sums = np.stack([np.bincount(self._group, each)[self._kept] for each in weighted], 1)
        with np.errstate(invalid="ignore"):  # of no query
            means = sums.sum(0) / self._weights.sum()
            samples = self._draws @ sums / self._drawn[:, None]  # (B, K)
        found = iter(zip(means, *interval(samples, level), strict=True))
        return [
            {k: x for name in row for k, x in columns(name, *next(found)).items()} for row in rows
        ]


def draw(number: int, resamples: int, seed: int) -> np.ndarray:
    """(B, U) count of each of `number` units in each sample; nan if there is only one unit."""
    if number < 2:
        return np.full((resamples, number), np.nan)
    rng = np.random.default_rng(seed)
    return rng.multinomial(number, np.full(number, 1 / number), resamples).astype(float)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(B, ...) statistics of the samples -> both ends; nan if there is only one unit."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, (tail, 1 - tail), axis=0)
    return low, high


def columns(name: str, value: float, low: float, high: float) -> dict[str, float]:
    """A value and the ends of its interval, as `NAME`, `NAME_low` and `NAME_high`."""
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def _mean_of_trials(values: Tensor, ranking: Ranking) -> np.ndarray:
    """(T, Q) -> (Q,), 0 where no trial is answerable."""
    trials = ranking.answerable.sum(0).clamp(min=1)
    result: np.ndarray = ((values * ranking.answerable).sum(0).double() / trials).numpy()
    return result


def _groups(pids: np.ndarray, unit: Unit) -> np.ndarray:
    """(Q,) index of each query's unit."""
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

    Units are drawn with replacement, the same for both sides. If a side has several runs, runs are
    drawn as well, so that the interval covers the variance between seeds.

    Args:
        a, b: (R, Q) value of each query in each of R runs; R may differ.
        pids: (Q,) pids of the queries.
        weights: (Q,) weights of the queries, such as their number of trials; None: equal.
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
    low, high = interval((means[0] - means[1]) / (draws @ counts), level)
    return Difference(value, float(low), float(high))
