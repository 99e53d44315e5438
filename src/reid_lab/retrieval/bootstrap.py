"""Confidence intervals: how far an accuracy would move with other people in the test."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from reid_lab.retrieval.metrics import Ranking

RESAMPLES, LEVEL = 1000, 0.95


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
