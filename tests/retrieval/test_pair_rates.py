"""Rates of pairs in samples of people, against loops over the people who were drawn."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from reid_lab.protocol import Hidden
from reid_lab.retrieval.bootstrap import draw
from reid_lab.retrieval.open_set import operating_points, split_people
from reid_lab.retrieval.pair_rates import pair_rates
from reid_lab.retrieval.space import Space
from tests.retrieval.people import ids, seen
from tests.retrieval.test_verification import DEVICES, PROTOCOLS, distances, people

THRESHOLDS = (0.0, 3.0, 6.5, math.nan, 1e6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("hidden", PROTOCOLS)
def test_equals_a_loop_over_the_people_who_were_drawn(hidden: Hidden, device: str) -> None:
    """Copies of one person are no impostors of each other; those whom nobody asks for stay."""
    space, q, g = people(persons=7)  # the gallery has distractors and junk, too
    pids = q.pids.unique().tolist()[:5]
    rows = torch.isin(q.pids, torch.tensor(pids)).nonzero().flatten()
    q = q.take(rows)
    space = Space.of(space.query[rows].to(device), space.gallery.to(device))
    draws = draw(len(pids), 6, seed=2)
    far, tmr = pair_rates(space, q, g, THRESHOLDS, draws, hidden)
    away = distances(Space.of(space.query.cpu(), space.gallery.cpu()))
    for b, times in enumerate(draws.astype(int)):
        drawn = [(pid, copy) for pid, n in zip(pids, times, strict=True) for copy in range(n)]
        others = [(pid, 0) for pid in set(g.pids.tolist()) - set(pids)]
        found: dict[bool, list[float]] = {True: [], False: []}
        for one, two in product(drawn, drawn + others):
            if one != two and one[0] == two[0]:
                continue
            for i, j in product(np.flatnonzero(q.pids == one[0]), np.flatnonzero(g.pids == two[0])):
                if seen(q, g, int(i), int(j), hidden):
                    found[one == two].append(away[i, j])
        for f, threshold in enumerate(THRESHOLDS):
            for rates, same in ((far, False), (tmr, True)):
                passed = np.mean(np.array(found[same]) < threshold)
                expected = math.nan if math.isnan(threshold) else passed
                assert rates[b, f] == pytest.approx(expected, nan_ok=True)


def test_memory_does_not_matter() -> None:
    space, q, g = people()
    draws = draw(len(q.pids.unique()), 4, seed=0)
    whole = pair_rates(space, q, g, THRESHOLDS, draws)
    small = pair_rates(space, q, g, THRESHOLDS, draws, memory=2.2e5)
    np.testing.assert_allclose(whole, small, rtol=1e-12)


def test_without_a_pair_of_two_people_there_is_no_rate() -> None:
    space, q, g = people()
    one = q.pids == 3
    alone, mine = one.nonzero().flatten(), (g.pids == 3).nonzero().flatten()
    part = Space.of(space.query[alone], space.gallery[mine])
    far, tmr = pair_rates(part, q.take(alone), g.take(mine), [5.0], np.ones((1, 1)))
    assert math.isnan(far[0, 0]) and 0 <= tmr[0, 0] <= 1


@pytest.mark.parametrize("hidden", PROTOCOLS)
def test_intervals_of_operating_points_hold_their_rates(hidden: Hidden) -> None:
    space, q, g = people(persons=30)
    for point in operating_points(space, q, g, (0.3, 0.1), hidden):
        for name in ("known_fmr", "known_tmr", "tpir", "miss", "fpir"):
            low, high = (getattr(point, f"{name}_{end}") for end in ("low", "high"))
            assert 0 <= low <= getattr(point, name) <= high <= 1
            assert low < high or getattr(point, name) in (0, 1)
        assert point.known_fmr_low < point.known_fmr_high
    none = operating_points(space, q, g, (1e-6,), hidden)[0]
    assert all(map(math.isnan, (none.tpir_low, none.fpir_high, none.known_fmr_low)))


def test_intervals_draw_people_with_all_of_their_queries() -> None:
    space, q, g = people(persons=30)
    (point,) = operating_points(space, q, g, (0.1,))
    groups = split_people(q, g, "same_person_and_camera", seed=0)
    away = distances(space)
    alarms = [
        min(
            (away[i, j] for j in groups.gallery.tolist() if seen(q, g, i, j, PROTOCOLS[0])),
            default=math.inf,
        )
        < point.threshold
        for i in groups.unknown.tolist()
    ]
    pids = q.pids[groups.unknown].numpy()
    persons = np.unique(pids)
    means = []
    for times in draw(len(persons), 1000, seed=0).astype(int):
        drawn = np.repeat(persons, times)
        means.append(np.mean([a for p in drawn for a in np.array(alarms)[pids == p]]))
    bounds = [point.fpir_low, point.fpir_high]
    np.testing.assert_allclose(bounds, np.quantile(means, [0.025, 0.975]))


def test_false_accepts_vary_with_both_people_of_a_pair() -> None:
    """Twice as much as with the one who asks, where the same people are easy on both sides."""
    rng = np.random.default_rng(0)
    number = 60
    pids = np.arange(1, number + 1)
    lonely = rng.random(number) < 0.5  # nothing is near their images
    places = torch.from_numpy(np.where(lonely, 100.0 * pids, 0))[:, None].float()
    q, g = ids(pids, np.ones(number, int)), ids(pids, np.full(number, 2))
    space = Space.of(places, places + 1e-3)
    draws = draw(number, 1000, seed=0)
    far, _ = pair_rates(space, q, g, [1.0], draws)
    crowd = (~lonely).astype(float)
    asking = draws @ (crowd * (crowd.sum() - 1)) / (draws.sum(1) * (number - 1))
    assert 1.7 < far.std() / asking.std() < 2.3
