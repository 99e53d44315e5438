from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_lab.budget.stream import (
    Draws,
    RunningQuantile,
    exit_probabilities,
    exit_shares,
    replay,
    solve_a,
)
from reid_lab.budget.sweep import check_budgets, in_order, stream_sweep
from reid_lab.cost.currency import ExitCosts, Floats
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate

COSTS = np.array([513.7, 1185.4, 2142.9, 2673.6])  # DaRe(R50), in millions


def ids(pids: list[int], camids: list[int]) -> Ids:
    paths = np.array([f"{i}.jpg" for i in range(len(pids))], dtype=object)
    return Ids(torch.tensor(pids), torch.tensor(camids), paths)


def online(confidences: Floats, q: Floats, order: np.ndarray, seed: int) -> np.ndarray:
    return replay(confidences, RunningQuantile(q), order, len(confidences), seed)


def test_shares_are_geometric() -> None:
    shares = exit_shares(0.5, 4)
    np.testing.assert_allclose(shares, np.array([8, 4, 2, 1]) / 15)
    np.testing.assert_allclose(exit_shares(0, 4), [1, 0, 0, 0])
    np.testing.assert_allclose(exit_shares(np.inf, 4), [0, 0, 0, 1])
    np.testing.assert_allclose(exit_shares(1e200, 4), [0, 0, 0, 1], atol=1e-100)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 1), st.lists(st.floats(1, 1e10), min_size=2, max_size=6).map(sorted).map(np.array)
)
def test_a_spends_the_budget(position: float, costs: np.ndarray) -> None:
    budget = min(costs[0] + position * (costs[-1] - costs[0]), costs[-1])
    shares = exit_shares(solve_a(costs, budget), len(costs))
    assert shares @ costs == pytest.approx(budget, rel=1e-6)


@pytest.mark.parametrize("budget", [500.0, 2700.0, float("nan")])
def test_unreachable_budget(budget: float) -> None:
    with pytest.raises(ValueError, match=r"exits cost 513\.7 to 2674"):
        solve_a(COSTS, budget)
    with pytest.raises(ValueError, match="cannot be met"):
        check_budgets(ExitCosts.of_mul_adds({"a": 514, "b": 1185}), ["margin"], [600, budget])


def test_probabilities_undo_the_shares() -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(exit_probabilities(shares), [0.4, 0.5, 2 / 3, 1])
    assert exit_probabilities(np.array([1.0, 0, 0]))[0] == 1


@pytest.mark.parametrize("budget", [700, 1200, 1800, 2400])
def test_realised_shares_meet_the_plan_without_a_cold_start(budget: float) -> None:
    rng = np.random.default_rng(0)
    queries = 2000
    shares = exit_shares(solve_a(COSTS, budget), 4)
    difficulty = rng.normal(size=queries)
    confidences = np.stack([difficulty + rng.normal(size=queries) for _ in range(4)])
    q = exit_probabilities(shares)
    left = online(confidences, q, np.arange(queries), seed=1)
    realised = np.bincount(left, minlength=4) / queries
    np.testing.assert_allclose(realised, shares, atol=0.03)
    assert COSTS[left].mean() == pytest.approx(budget, rel=0.02)
    # in expectation from the very first query on
    first = [online(confidences[:, :1], q, np.arange(1), seed=s)[0] for s in range(600)]
    assert np.mean(np.array(first) == 0) == pytest.approx(shares[0], abs=0.06)


def test_easy_queries_leave_early_and_the_future_is_not_used() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.normal(size=(3, 400))
    q = exit_probabilities(np.array([0.5, 0.3, 0.2]))
    order = np.arange(400)
    left = online(confidences, q, order, seed=0)
    assert confidences[0, left == 0].mean() > confidences[0, left > 0].mean() + 1
    changed = confidences.copy()
    changed[:, 200:] = rng.normal(size=(3, 200))
    assert np.array_equal(online(changed, q, order, seed=0)[:200], left[:200])


def test_sweep_mixes_the_exits_rankings() -> None:
    torch.manual_seed(0)
    pids = torch.arange(1, 41).repeat_interleave(2)
    centres = torch.randn(41, 8)
    query = ids(pids[::2].tolist(), [1] * 40)
    gallery = ids(pids.tolist(), [2] * 80)

    def exit(noise: float, cost: int) -> Exit:
        q = centres[query.pids] + noise * torch.randn(40, 8)
        return Exit(q, centres[gallery.pids] + noise * torch.randn(80, 8), cost)

    evaluation = evaluate(Embeddings(query, gallery, {"a": exit(1.5, 10), "b": exit(0.1, 100)}))
    rows = stream_sweep(evaluation, ["a", "b"], ["random", "margin"], [10, 55, 100], seed=3).rows
    by = {(row["policy"], row["planned"]): row for row in rows}
    for policy in ("random", "margin"):
        for budget, name in ((10.0, "a"), (100.0, "b")):
            row = by[policy, budget]
            assert row["realised"] == budget
            assert row["rank1"] == pytest.approx(evaluation.rankings[name].rank1)
            assert row["mAP"] == pytest.approx(evaluation.rankings[name].mAP)
            assert row[f"share_{name}"] == 1
    assert by["margin", 55.0]["share_a"] == pytest.approx(0.5, abs=0.12)

    def swept(**seed: int) -> list[object]:
        return [*stream_sweep(evaluation, ["a", "b"], ["random"], [40, 55], **seed).rows]

    assert swept() == swept(seed=0) != swept(seed=1)  # reproducible without one, too


@pytest.mark.parametrize("how", ["online", "steered"])
def test_adjacent_shares_use_the_two_exits_around_the_budget(how: Any) -> None:
    """As `random` does; an exit that finds nobody is not used at a budget above the next."""
    torch.manual_seed(0)
    people = 300
    centres = torch.randn(people, 8)
    query = ids(range(people), [1] * people)
    gallery = ids(range(people), [2] * people)

    def exit(noise: float, cost: int) -> Exit:
        q, g = (centres + noise * torch.randn(people, 8) for _ in range(2))
        return Exit(q, g, cost)

    exits = {"a": exit(9, 10), "b": exit(0.5, 50), "c": exit(0.3, 100)}
    evaluation = evaluate(Embeddings(query, gallery, exits))

    def row(shares: Any) -> dict[str, Any]:
        words: dict[str, Any] = {"thresholds": [how], "shares": shares}
        return stream_sweep(evaluation, list(exits), ["margin"], [75.0], **words).rows[0]

    adjacent, geometric = row("adjacent"), row("geometric")
    assert adjacent["share_a"] == 0 and np.isnan(adjacent["a"])
    assert adjacent["share_b"] == pytest.approx(0.5, abs=0.06)
    assert adjacent["rank1_gain"] > 0
    assert geometric["share_a"] > 0.1 and geometric["a"] > 1


def test_one_by_one_is_the_paper_loop() -> None:
    """Against a naive loop: sort all that came to the exit so far, count, compare."""
    rng = np.random.default_rng(3)
    sure = rng.normal(size=(3, 120)).round(1)  # with ties
    q = exit_probabilities(np.array([0.3, 0.3, 0.4]))
    order = rng.permutation(120)
    _, within = Draws(3, seed=5).take(120)
    came: list[list[float]] = [[], [], []]
    expected = np.full(120, 2)
    for place, query in enumerate(order):
        for s in range(2):
            easier = sum(c >= sure[s, query] for c in came[s])
            share = (easier + within[place, s]) / (len(came[s]) + 1)
            came[s].append(sure[s, query])
            if share < q[s]:
                expected[query] = s
                break
    assert np.array_equal(online(sure, q, order, seed=5), expected)


@pytest.mark.parametrize("parts", [[1] * 12, [5, 7], [3, 3, 6]])
def test_numbers_do_not_depend_on_the_batches(parts: list[int]) -> None:
    whole, pieces = Draws(4, 1).take(12), Draws(4, 1)
    drawn = [pieces.take(n) for n in parts]
    for one, many in zip(whole, zip(*drawn, strict=True), strict=True):
        assert np.array_equal(one, np.concatenate(many))


def test_random_confidences_and_places_are_uniform_and_independent() -> None:
    noise, within = Draws(exits=3, seed=0).take(20_000)
    numbers = np.concatenate([noise, within], 1)  # (N, 6)
    assert numbers.min() >= 0 and numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(12 * np.cov(numbers.T), np.eye(6), atol=0.03)


def test_orders_of_the_queries() -> None:
    query = ids([3, 1, 2, 1, 3, 2], [1, 2, 1, 1, 2, 2])
    for order, key in (("by_identity", query.pids), ("by_camera", query.camids)):
        places = in_order(order, query, seed=0)  # type: ignore[arg-type]
        assert sorted(places) == list(range(6))
        assert np.all(np.diff(key[torch.from_numpy(places)].numpy()) >= 0)
    assert sorted(in_order("shuffled", query, 0)) == list(range(6))


def test_a_window_forgets_what_came_before() -> None:
    """Ranks among the last 20 confidences, by a naive count."""
    rng = np.random.default_rng(0)
    confidence, within = rng.normal(size=300).round(1), rng.random(300)  # with ties
    rule = RunningQuantile(np.array([0.3, 1.0]), window=20)
    parts = np.array_split(np.arange(300), 7)
    out = np.concatenate([rule.exits_here(0, confidence[p], within[p]) for p in parts])
    for i in range(300):
        seen = confidence[max(0, i - 20) : i]
        easier = (seen >= confidence[i]).sum()
        assert out[i] == ((easier + within[i]) / (len(seen) + 1) < 0.3)
