from __future__ import annotations

import torch

from reid_lab.budget.anytime import anytime_curve, exit_at
from reid_lab.retrieval import Ranking

COSTS = {"stage1": 10, "stage2": 30, "fusion": 30}


def ranking(first: list[int]) -> Ranking:
    one = torch.ones(1, len(first))
    return Ranking(torch.tensor([first]), one / 2, one / 2, one, one.bool())


def test_the_most_recent_exit_answers() -> None:
    assert [exit_at(b, COSTS) for b in (9, 10, 29.9, 30, 1e9)] == [
        None,
        "stage1",
        "stage1",
        "fusion",
        "fusion",
    ]


def test_curve_takes_the_exits_accuracy_even_where_it_falls() -> None:
    rankings = {
        "stage1": ranking([0, 0, 1, 1]),
        "stage2": ranking([0, 0, 0, 0]),
        "fusion": ranking([0, 1, 1, 1]),
    }
    curve = anytime_curve(rankings, COSTS, [5, 10, 30])
    assert [(row["exit"], row["rank1"]) for row in curve] == [
        ("", 0.0),
        ("stage1", 0.5),
        ("fusion", 0.25),
    ]
    assert [(row["budget"], row["mul_adds"]) for row in curve] == [(5, 0), (10, 10), (30, 30)]
    (between,) = anytime_curve(rankings, COSTS, [12.5])
    assert (between["budget"], between["mul_adds"], between["cost"]) == (12.5, 10, "mul_adds")


def test_a_budget_has_the_intervals_of_its_exit() -> None:
    bounds = {name: {"rank1_low": 0.1 * i, "rank1_high": 0.9} for i, name in enumerate(COSTS)}
    curve = anytime_curve(dict.fromkeys(COSTS, ranking([0, 1])), COSTS, [5, 10, 30], bounds=bounds)
    assert "rank1_low" not in curve[0]  # no exit: nothing is estimated
    assert [row["rank1_low"] for row in curve[1:]] == [0, 0.2]
