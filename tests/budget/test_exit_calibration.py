from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from reid_lab.budget.exit_calibration import (
    KEY,
    ExitCalibration,
    exit_calibration_of,
    fit_exit_calibration,
)
from reid_lab.budget.policies import Policy
from reid_lab.budget.stream import exit_probabilities, exit_shares, replay, solve_a
from reid_lab.budget.sweep import stream_sweep
from reid_lab.errors import UserError
from reid_lab.retrieval import evaluate
from tests.budget.people import people

EXITS = ["stage1", "stage2", "stage3"]
COSTS = np.array([10.0, 20.0, 30.0])
POLICIES: list[Policy] = ["random", "distance", "margin", "entropy", "learned"]


@pytest.fixture(scope="module")
def known() -> ExitCalibration:
    return fit_exit_calibration(evaluate(people(150, seed=1)), EXITS)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("budget", [10.0, 13.0, 20.0, 27.0, 30.0])
def test_the_held_out_people_leave_as_planned(
    known: ExitCalibration, policy: Policy, budget: float
) -> None:
    q = exit_probabilities(exit_shares(solve_a(COSTS, budget), 3))
    sure = known.confidences.get(policy)
    left = replay(sure, known.rule(policy, q), np.arange(known.queries), 3, seed=0)
    assert COSTS[left].mean() == pytest.approx(budget, rel=0.03 if policy == "random" else 0.002)


def test_the_temperature_is_kept_and_changes_the_entropy(known: ExitCalibration) -> None:
    sharp = fit_exit_calibration(evaluate(people(150, seed=1)), EXITS, temperature=0.1)
    assert (sharp.confidences["entropy"] > known.confidences["entropy"]).mean() > 0.9
    assert np.array_equal(sharp.confidences["margin"], known.confidences["margin"])
    assert ExitCalibration.of_state(sharp.state()).temperature == 0.1
    before = {k: v for k, v in known.state().items() if k != "temperature"}
    assert ExitCalibration.of_state(before).temperature == known.temperature == 0.3


@pytest.mark.parametrize(("how", "within"), [("fitted", 0.06), ("online", 0.05), ("steered", 0.01)])
def test_others_of_the_same_kind_cost_within_2_percent_of_the_plan(
    known: ExitCalibration, how: str, within: float
) -> None:
    """Stationary: other people, drawn as the held-out ones were."""
    evaluation = evaluate(people(150, seed=2))
    budgets = [15.0, 20.0, 25.0]
    rows = stream_sweep(
        evaluation,
        EXITS,
        POLICIES[1:],
        budgets,
        exit_calibration=known,
        thresholds=[how],  # type: ignore[list-item]
    ).rows
    off = [row["realised"] / row["planned"] - 1 for row in rows]
    # 600 queries: the paper's rule and fixed thresholds stray by 1.7% of the cost, one sigma
    assert np.abs(off).max() < within
    assert abs(np.mean(off)) < 0.02


@pytest.mark.parametrize("order", ["by_identity", "by_camera"])
def test_steering_keeps_to_the_plan_under_drift(known: ExitCalibration, order: str) -> None:
    e = people(150, seed=2)
    rows = stream_sweep(
        evaluate(e),
        EXITS,
        ["margin"],
        [15.0, 25.0],
        thresholds=["steered"],
        orders=[order],  # type: ignore[list-item]
    ).rows
    assert all(row["realised"] == pytest.approx(row["planned"], rel=0.02) for row in rows)


def test_the_learned_policy_is_no_worse_than_noise_and_costs_no_more(
    known: ExitCalibration,
) -> None:
    evaluation = evaluate(people(150, seed=3))
    rows = stream_sweep(
        evaluation, EXITS, ["random", "learned"], [18.0], exit_calibration=known
    ).rows
    noise, learned = rows
    assert learned["rank1"] > noise["rank1"] + 0.01
    assert learned["matching"] > noise["matching"]  # it features at the gallery to decide


def test_kinds_have_names_and_columns(known: ExitCalibration) -> None:
    evaluation = evaluate(people(20, seed=4))
    rows = stream_sweep(
        evaluation,
        EXITS,
        ["margin"],
        [20.0],
        exit_calibration=known,
        thresholds=["online", "fitted"],
        orders=["shuffled", "by_camera"],
    ).rows
    assert [(row["policy"], row["thresholds"], row["order"]) for row in rows] == [
        ("margin", "online", "shuffled"),
        ("margin", "fitted", "shuffled"),
        ("margin", "online", "by_camera"),
        ("margin", "fitted", "by_camera"),
    ]
    fitted = [row for row in rows if row["thresholds"] == "fitted"]
    assert fitted[0]["realised"] == fitted[1]["realised"]  # the order says nothing to them


@pytest.mark.parametrize("gallery", ["whole", "reduced"])
def test_matching_is_paid_for(known: ExitCalibration, gallery: str) -> None:
    e = people(10, seed=5)
    whole, small = 60 * 16, 30 * 16
    rows = stream_sweep(
        evaluate(e),
        EXITS,
        ["margin"],
        [10.0, 30.0],
        gallery=gallery,  # type: ignore[arg-type]
    ).rows
    first, last = (row["matching"] for row in rows)
    if gallery == "whole":
        assert (first, last) == (whole, 3 * whole)
    else:  # decided on few, answered from all
        assert (first, last) == (small + whole, 2 * small + whole)


def test_a_checkpoint_keeps_it_in_plain_types(known: ExitCalibration) -> None:
    file = io.BytesIO()
    torch.save({"callbacks": {KEY: known.state()}}, file)
    file.seek(0)
    again = exit_calibration_of(torch.load(file, weights_only=True))
    assert (again.exits, again.metric, again.held_out) == (known.exits, known.metric, True)
    q = exit_probabilities(np.array([0.3, 0.3, 0.4]))
    for policy in POLICIES:
        one, two = (c.rule(policy, q).thresholds for c in (known, again))
        assert np.array_equal(one, two)
    x = np.random.default_rng(0).normal(size=(5, 4))
    assert np.array_equal(known.models["stage1"](x), again.models["stage1"](x))


def test_a_checkpoint_without_says_how_to_get_them() -> None:
    with pytest.raises(UserError, match=r"callbacks\.exit_thresholds"):
        exit_calibration_of({"callbacks": {}})
