"""The baseline of DaRe's figure 6, and the differences of policies to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_lab.budget.gains import Baseline
from reid_lab.budget.policies import Policy
from reid_lab.budget.stream import RunningQuantile, exit_probabilities, mixed_shares, replay
from reid_lab.budget.sweep import StreamSweep, stream_sweep
from reid_lab.protocol import Protocol
from reid_lab.retrieval import Evaluation, evaluate
from reid_lab.retrieval.bootstrap import Unit
from tests.budget.people import people

EXITS = ["stage1", "stage2", "stage3"]
COSTS = np.array([10.0, 20.0, 30.0])
BUDGETS = [10.0, 13.0, 20.0, 27.0, 30.0]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(people(60, seed=1))


@pytest.fixture(scope="module")
def swept(evaluation: Evaluation) -> StreamSweep:
    policies: list[Policy] = ["random", "geometric", "distance", "margin"]
    return stream_sweep(evaluation, EXITS, policies, BUDGETS)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (10.0, [1, 0, 0, 0]),
        (12.5, [0.75, 0.25, 0, 0]),
        (20.0, [0, 1, 0, 0]),
        (39.0, [0, 0, 0.05, 0.95]),
        (40.0, [0, 0, 0, 1]),
    ],
)
def test_two_adjacent_exits_spend_the_budget(budget: float, expected: list[float]) -> None:
    costs = np.array([10.0, 20.0, 20.0, 40.0])
    shares = mixed_shares(costs, budget)
    np.testing.assert_allclose(shares, expected, atol=1e-12)
    assert shares @ costs == pytest.approx(budget)


@pytest.mark.parametrize("budget", [9.9, 30.1, float("nan")])
def test_a_budget_outside_the_exits(budget: float) -> None:
    with pytest.raises(ValueError, match="exits cost 10 to 30"):
        mixed_shares(COSTS, budget)


@pytest.mark.parametrize("budget", BUDGETS)
def test_random_averages_to_the_straight_line(evaluation: Evaluation, budget: float) -> None:
    """Over seeds: the mean cost is the budget, the mean accuracy that of the line."""
    q = exit_probabilities(mixed_shares(COSTS, budget))
    right = np.stack([(evaluation.rankings[n].first[0] < 1).numpy() for n in EXITS])  # (S, Q)
    queries = np.arange(right.shape[1])
    exits = np.stack([replay(None, RunningQuantile(q), queries, 3, seed) for seed in range(200)])
    assert COSTS[exits].mean() == pytest.approx(budget, rel=0.005)
    assert right[exits, queries].mean() == pytest.approx(
        np.interp(budget, COSTS, right.mean(1)), abs=0.004
    )
    above = np.searchsorted(COSTS, budget)
    assert set(np.unique(exits)) <= {max(above - 1, 0), above}


def test_gains_are_above_the_line_at_the_realised_cost(
    evaluation: Evaluation, swept: StreamSweep
) -> None:
    for row in swept.rows:
        for metric in ("rank1", "mAP"):
            exits = [getattr(evaluation.rankings[name], metric) for name in EXITS]
            line = np.interp(row["realised"], COSTS, exits)
            gain = row[f"{metric}_gain"]
            assert gain == pytest.approx(row[metric] - line, abs=1e-6)
            assert row[f"{metric}_gain_low"] <= gain <= row[f"{metric}_gain_high"]
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    margin = [row["rank1_gain"] for row in swept.rows if row["policy"] == "margin"]
    assert margin[0] == margin[-1] == 0 and min(margin[1:-1]) > 0.01


def test_policies_over_all_budgets(swept: StreamSweep) -> None:
    found = {(row["policy"], row["against"]): row for row in swept.policies}
    names = ["random", "geometric", "distance", "margin"]
    assert list(found) == [*((name, "random") for name in names), ("distance", "margin")]
    for name in names:
        own = [row for row in swept.rows if row["policy"] == name]
        row = found[name, "random"]
        assert row["rank1_gain"] == pytest.approx(np.mean([r["rank1_gain"] for r in own]))
        assert row["rank1_gain_least"] == min(r["rank1_gain"] for r in own)
        assert row["deviation"] == max(abs(r["realised"] / r["planned"] - 1) for r in own)
        assert 20 < row["reaches_last"] <= 30
    margin, distance = found["margin", "random"], found["distance", "random"]
    difference = distance["rank1_gain"] - margin["rank1_gain"]
    assert found["distance", "margin"]["rank1_gain"] == pytest.approx(difference)
    low, high = (found["random", "random"][f"rank1_gain_{end}"] for end in ("low", "high"))
    assert low < 0 < high < margin["rank1_gain"] < margin["rank1_gain_high"]


@pytest.mark.parametrize("unit", ["queries", "identities"])
def test_intervals_are_those_of_a_naive_bootstrap(evaluation: Evaluation, unit: Unit) -> None:
    exit_of = np.random.default_rng(0).integers(3, size=240)
    right = np.stack([(evaluation.rankings[n].first[0] < 1).numpy() for n in EXITS]).astype(float)
    mix = mixed_shares(COSTS, COSTS[exit_of].mean())
    gains = right[exit_of, np.arange(240)] - mix @ right
    pids = evaluation.embeddings.query.pids.numpy()
    units = np.arange(240) if unit == "queries" else np.unique(pids, return_inverse=True)[1]
    number, rng, means = units.max() + 1, np.random.default_rng(5), []
    for _ in range(1000):
        times = rng.multinomial(number, np.full(number, 1 / number))[units]
        means.append((times * gains).sum() / times.sum())
    baseline = Baseline(evaluation, EXITS, unit, seed=5)
    (found,) = baseline.columns([baseline.gains(exit_of)])
    assert found["rank1_gain"] == pytest.approx(gains.mean())
    bounds = [found["rank1_gain_low"], found["rank1_gain_high"]]
    np.testing.assert_allclose(bounds, np.quantile(means, [0.025, 0.975]))


@pytest.mark.parametrize("unit", ["queries", "identities"])
def test_over_the_last_exit_at_any_cost(evaluation: Evaluation, unit: Unit) -> None:
    """A naive paired bootstrap; nothing is lost where all queries take the last exit."""
    exit_of = np.random.default_rng(0).integers(3, size=240)
    right = np.stack([(evaluation.rankings[n].first[0] < 1).numpy() for n in EXITS]).astype(float)
    lost = right[exit_of, np.arange(240)] - right[-1]
    pids = evaluation.embeddings.query.pids.numpy()
    units = np.arange(240) if unit == "queries" else np.unique(pids, return_inverse=True)[1]
    number, rng = units.max() + 1, np.random.default_rng(5)
    times = rng.multinomial(number, np.full(number, 1 / number), 1000)[:, units]
    baseline = Baseline(evaluation, EXITS, unit, seed=5)
    gains = [baseline.over_last(each) for each in (exit_of, np.full(240, 2))]
    some, none = baseline.columns(gains, "over_last")
    assert some["rank1_over_last"] == pytest.approx(lost.mean())
    bounds = [some["rank1_over_last_low"], some["rank1_over_last_high"]]
    means = (times * lost).sum(1) / times.sum(1)
    np.testing.assert_allclose(bounds, np.quantile(means, [0.025, 0.975]))
    assert set(none.values()) == {0.0}


def test_the_stream_is_compared_with_its_last_exit(
    evaluation: Evaluation, swept: StreamSweep
) -> None:
    last = evaluation.rankings[EXITS[-1]]
    for row in swept.rows:
        for metric in ("rank1", "mAP"):
            expected = row[metric] - getattr(last, metric)
            assert row[f"{metric}_over_last"] == pytest.approx(expected, abs=1e-6)


def test_accuracies_are_of_people_and_exit_by_exit(evaluation: Evaluation) -> None:
    """A naive bootstrap over identities; all at one exit, that of the exit."""
    exit_of = np.random.default_rng(0).integers(3, size=240)
    rankings = [evaluation.rankings[name] for name in EXITS]
    right = np.stack([(r.first[0] < 1).numpy() for r in rankings]).astype(float)
    precise = np.stack([r.ap[0].numpy() for r in rankings])
    person = np.unique(evaluation.embeddings.query.pids.numpy(), return_inverse=True)[1]
    number, rng = person.max() + 1, np.random.default_rng(0)
    times = rng.multinomial(number, np.full(number, 1 / number), 1000)[:, person]
    everything = [np.full(240, s) for s in range(3)]
    found = Baseline(evaluation, EXITS, "queries", seed=5).accuracies([exit_of, *everything])
    for metric, values in (("rank1", right), ("mAP", precise)):
        chosen = values[exit_of, np.arange(240)]
        assert found[0][metric] == pytest.approx(chosen.mean())
        means = [(draw * chosen).sum() / draw.sum() for draw in times]
        bounds = [found[0][f"{metric}_{end}"] for end in ("low", "high")]
        np.testing.assert_allclose(bounds, np.quantile(means, [0.025, 0.975]))
    for name, own, row in zip(EXITS, evaluation.intervals().values(), found[1:], strict=True):
        assert row["mAP"] == pytest.approx(evaluation.rankings[name].mAP)
        ends = ("rank1_low", "rank1_high", "mAP_low", "mAP_high")
        assert {end: row[end] for end in ends} == pytest.approx({end: own[end] for end in ends})


def test_queries_weigh_as_often_as_they_have_a_match() -> None:
    """Random galleries: a query has a trial's score only where it has a match in it."""
    e = people(12, seed=2)
    e.gallery.pids[e.gallery.pids == 3] = 100  # without a match
    protocol = Protocol(hidden="same_camera", shots=1, trials=3)
    evaluation = evaluate(e, protocol=protocol)
    assert not evaluation.rankings["stage1"].answerable[:, e.query.pids == 3].any()
    rows = stream_sweep(evaluation, EXITS, ["margin"], [17.0, 20.0]).rows
    for row in rows:
        line = np.interp(
            row["realised"], COSTS, [float(evaluation.rankings[n].rank1) for n in EXITS]
        )
        assert row["rank1_gain"] == pytest.approx(row["rank1"] - line, abs=1e-6)
    assert torch.equal(e.query.pids, evaluation.embeddings.query.pids)
