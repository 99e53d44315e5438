"""Confidence intervals against a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reid_lab.retrieval.bootstrap import bootstrap
from reid_lab.retrieval.metrics import Ranking

PIDS = torch.tensor([7, 7, 7, 3, 3, 9, 5, 5, 5, 5, 2, 2])


def ranking(trials: int = 1) -> Ranking:
    random = torch.Generator().manual_seed(0)
    shape = (trials, len(PIDS))
    first = torch.randint(3, shape, generator=random)
    ap, inp = torch.rand(2, *shape, generator=random, dtype=torch.float64)
    answerable = torch.rand(shape, generator=random) < 0.8
    answerable[:, PIDS == 9] = False  # nobody to ask for
    return Ranking(first, ap, ap, inp, answerable)


@pytest.mark.parametrize("trials", [1, 3])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_equals_a_naive_loop(trials: int, level: float) -> None:
    found, resamples, seed = ranking(trials), 50, 4
    people = [p for p in sorted(set(PIDS.tolist())) if bool(found.answerable[:, p == PIDS].any())]
    draws = np.random.default_rng(seed).multinomial(
        len(people), [1 / len(people)] * len(people), resamples
    )
    rank1, mean_ap = [], []
    for draw in draws:
        hits, aps = [], []
        for person, times in zip(people, draw, strict=True):
            for _ in range(times):
                for t in range(trials):
                    for q in (person == PIDS).nonzero().flatten().tolist():
                        if found.answerable[t, q]:
                            hits.append(float(found.first[t, q] == 0))
                            aps.append(float(found.ap[t, q]))
        rank1.append(sum(hits) / len(hits))
        mean_ap.append(sum(aps) / len(aps))
    tails = [50 * (1 - level), 50 * (1 + level)]
    expected = [*np.percentile(rank1, tails), *np.percentile(mean_ap, tails)]
    bounds = bootstrap(found, PIDS, resamples, level, seed)
    assert list(bounds) == ["rank1_low", "rank1_high", "mAP_low", "mAP_high"]
    assert list(bounds.values()) == pytest.approx(expected)


def test_holds_the_accuracy_and_shrinks_with_more_people() -> None:
    few = ranking()
    many = Ranking.concatenate([few] * 30)
    pids = torch.cat([PIDS + 100 * i for i in range(30)])
    wide, narrow = bootstrap(few, PIDS), bootstrap(many, pids)
    for metric in ("rank1", "mAP"):
        value = getattr(few, metric)
        low, high = narrow[f"{metric}_low"], narrow[f"{metric}_high"]
        assert wide[f"{metric}_low"] < low < value < high < wide[f"{metric}_high"]


def test_one_person_says_nothing_about_others() -> None:
    one = PIDS == 5
    bounds = bootstrap(ranking().take(one.nonzero().flatten()), PIDS[one])
    assert all(math.isnan(value) for value in bounds.values())
