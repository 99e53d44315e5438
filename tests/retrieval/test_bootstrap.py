"""Confidence intervals against a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reid_lab.retrieval.accuracies import ACCURACIES
from reid_lab.retrieval.bootstrap import bootstrap, paired_bootstrap
from reid_lab.retrieval.metrics import Ranking

PIDS = torch.tensor([7, 7, 7, 3, 3, 9, 5, 5, 5, 5, 2, 2])


def ranking(trials: int = 1) -> Ranking:
    random = torch.Generator().manual_seed(0)
    shape = (trials, len(PIDS))
    first = torch.randint(3, shape, generator=random) ** 4  # 0, 1 or 16
    ap, trapezoid, inp = torch.rand(3, *shape, generator=random, dtype=torch.float64)
    answerable = torch.rand(shape, generator=random) < 0.8
    answerable[:, PIDS == 9] = False  # nobody to ask for
    return Ranking(first, ap, trapezoid, inp, answerable)


@pytest.mark.parametrize("trials", [1, 3])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_equals_a_naive_loop(trials: int, level: float) -> None:
    found, resamples, seed = ranking(trials), 50, 4
    values = {f"rank{k}": found.first < k for k in (1, 5, 10, 20)}
    values |= {"mAP": found.ap, "mAP_trapezoid": found.ap_trapezoid, "mINP": found.inp}
    people = [p for p in sorted(set(PIDS.tolist())) if bool(found.answerable[:, p == PIDS].any())]
    draws = np.random.default_rng(seed).multinomial(
        len(people), [1 / len(people)] * len(people), resamples
    )
    means: dict[str, list[float]] = {name: [] for name in values}
    for draw in draws:
        drawn: dict[str, list[float]] = {name: [] for name in values}
        for person, times in zip(people, draw, strict=True):
            for _ in range(times):
                for t in range(trials):
                    for q in (person == PIDS).nonzero().flatten().tolist():
                        if found.answerable[t, q]:
                            for name in values:
                                drawn[name].append(float(values[name][t, q]))
        for name in values:
            means[name].append(sum(drawn[name]) / len(drawn[name]))
    tails = [50 * (1 - level), 50 * (1 + level)]
    expected = {
        f"{name}_{end}": np.percentile(means[name], tail)
        for name in values
        for end, tail in zip(("low", "high"), tails, strict=True)
    }
    bounds = bootstrap(found, PIDS, resamples, level, seed, ACCURACIES)
    assert bounds == pytest.approx(expected) and list(found.summary()) == list(values)
    few = ["rank1_low", "rank1_high", "mAP_low", "mAP_high"]
    assert bootstrap(found, PIDS, resamples, level, seed) == {name: bounds[name] for name in few}


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
    assert len(bounds) == 4 and all(math.isnan(value) for value in bounds.values())


def test_nobody_has_a_match() -> None:
    bounds = bootstrap(Ranking.skipped(3), torch.tensor([1, 1, 2]))
    assert len(bounds) == 4 and all(math.isnan(value) for value in bounds.values())


def test_paired_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    pids = PIDS.numpy()
    a, b, trials = rng.random((3, 12)), rng.random((2, 12)), rng.integers(1, 4, 12)
    found = paired_bootstrap(a, b, pids, trials, resamples=40, level=0.9, seed=3)
    same = np.random.default_rng(3)
    people = np.unique(pids)
    persons = same.multinomial(len(people), np.full(len(people), 1 / len(people)), 40)
    runs = [same.multinomial(n, np.full(n, 1 / n), 40) for n in (3, 2)]
    values = []
    for draw in range(40):
        means = []
        for side, times in ((a, runs[0][draw]), (b, runs[1][draw])):
            drawn = np.repeat(np.arange(len(side)), times)
            queries = [q for p, n in zip(people, persons[draw], strict=True) for _ in range(n)
                       for q in np.flatnonzero(pids == p)]  # fmt: skip
            every = [np.average(side[r][queries], weights=trials[queries]) for r in drawn]
            means.append(np.mean(every))
        values.append(means[0] - means[1])
    assert found.value == pytest.approx(
        np.average(a.mean(0), weights=trials) - np.average(b.mean(0), weights=trials)
    )
    assert found[1:] == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))


def test_queries_are_drawn_one_by_one_where_asked_for() -> None:
    a, b = np.random.default_rng(0).random((2, 1, 12))
    by_query = paired_bootstrap(a, b, PIDS.numpy(), unit="queries")
    assert by_query == paired_bootstrap(a, b, np.arange(12)) != paired_bootstrap(a, b, PIDS.numpy())


def test_paired_is_narrower_than_two_intervals_and_covers_seeds() -> None:
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(100), 3)
    hard = rng.random(100)[pids] < 0.5  # what both find difficult
    a, b = (~hard).astype(float)[None], (~hard).astype(float)[None].copy()
    b[0, :6] = 1 - b[0, :6]  # of two people
    found = paired_bootstrap(a, b, pids)
    assert found.high - found.low < 0.1 < np.ptp(np.quantile(a[0], [0.025, 0.975]))
    seeds = np.concatenate([a, a * 0.5])  # one seed is much worse
    alone = paired_bootstrap(a, a, pids)
    several = paired_bootstrap(seeds, seeds, pids)
    assert alone[:] == (0, 0, 0) and several.low < -0.1 and several.high > 0.1


def test_paired_of_one_person_has_no_interval() -> None:
    one = paired_bootstrap(np.ones((1, 4)), np.zeros((1, 4)), np.zeros(4))
    assert one.value == 1 and math.isnan(one.low) and math.isnan(one.high)
