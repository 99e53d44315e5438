"""The headline numbers of a report: what they say, and of which exits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reid_lab.report import load_run
from reid_lab.report.headlines import headlines
from reid_lab.report.tables import points, policies_table, stream_table
from tests.report.fake_run import NAMES, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", steps=6)


def test_cheapest_exit_within_a_point(run: Path) -> None:
    path = run / "results" / "exits.csv"
    path.write_text(path.read_text().replace("0.87,", "0.876,"))
    headline = headlines(load_run(run))[1]
    assert headline.value == "2.14 G"
    assert headline.note == "Mul-Adds of stage3, 19.8% below fusion; Rank-1 87.6%"


def test_gain_of_a_policy_with_its_interval(run: Path) -> None:
    shown = load_run(run)
    (headline,) = (h for h in headlines(shown) if h.title == "Margin over random")
    assert headline.value == "+3.3 points"
    assert headline.note == (
        "Rank-1 at equal mean cost over stage1, stage2, stage3, stage4 and fusion, mean over 50 "
        "budgets; 95% CI +3.1 to +3.6"
    )
    first, second = policies_table(shown).rows
    assert first[:4] == ["margin", "random", "+3.3\n+3.1 to +3.6", "+0.0"]
    assert first[-2:] == ["2.00 G", "1.3%"] and second[-2:] == ["–", "–"]
    (run / "results" / "policies.csv").unlink()  # an older run: above the lines at one budget
    (headline,) = (h for h in headlines(load_run(run)) if h.title == "Margin over random")
    assert "(the middle budget)" in headline.note and headline.value == "+4.9 points"
    assert "over stage1, stage2, stage3, stage4 and fusion: " in headline.note


def test_what_half_of_the_cost_loses(run: Path) -> None:
    shown = load_run(run)
    (headline,) = (h for h in headlines(shown) if h.title == "At half the cost")
    row = min(shown.policies["margin"], key=lambda row: abs(row.planned - 1_336_800_000))
    assert headline.value == f"{points(row.rank1_over_last)} points"
    assert headline.note == (
        f"Rank-1 of margin, {100 * row.rank1:.1f}%, over fusion, at {row.realised / 1e9:.2f} G of "
        f"its 2.67 G Mul-Adds; 95% CI {points(row.rank1_over_last_low)} to "
        f"{points(row.rank1_over_last_high)}"
    )
    assert "Over last exit" in stream_table(shown).header


@pytest.mark.parametrize(
    "changed",
    [{"planned": 2.6e9}, {"rank1_over_last_low": math.nan}, {"cost": "latency"}, {"shares": {}}],
    ids=["no_such_budget", "an_older_run", "in_milliseconds", "no_shares"],
)
def test_half_of_the_cost_is_left_out(run: Path, changed: dict[str, Any]) -> None:
    shown = load_run(run)
    shown.stream = [replace(row, **changed) for row in shown.stream]
    assert not [h for h in headlines(shown) if h.title == "At half the cost"]


@pytest.mark.parametrize(
    ("rank1", "gain", "a", "hint"),
    [
        (
            [0.02, 0.07, 0.27, 0.28, 0.29],
            -0.027,
            0.5,
            "; under half of the best Rank-1 at stage1 and stage2: "
            "callbacks.stream.shares=adjacent uses only the two exits around the budget, "
            "callbacks.stream.exits=[stage3,stage4,fusion] only the exits that you name",
        ),
        (
            [0.02, 0.07, 0.08, 0.1, 0.29],
            -0.027,
            0.5,
            "; under half of the best Rank-1 at stage1, stage2, stage3 and stage4: "
            "callbacks.stream.shares=adjacent uses only the two exits around the budget",
        ),
        ([0.15, 0.2, 0.27, 0.28, 0.29], -0.027, 0.5, ""),
        ([0.02, 0.07, 0.27, 0.28, 0.29], 0.01, 0.5, ""),
        ([0.02, 0.07, 0.27, 0.28, 0.29], -0.027, math.nan, ""),  # adjacent already
    ],
    ids=["two", "one_is_left", "none_is_weak", "above_random", "adjacent"],
)
def test_a_stream_below_random_names_its_weak_exits(
    run: Path, rank1: list[float], gain: float, a: float, hint: str
) -> None:
    shown = load_run(run)
    shown.exits = [
        replace(e, rank1=rank1[NAMES.index(e.name)]) for e in shown.exits if e.name in NAMES
    ]
    shown.stream = [replace(row, a=a) for row in shown.stream]
    shown.policy_gains = [replace(row, rank1_gain=gain) for row in shown.policy_gains]
    (headline,) = (h for h in headlines(shown) if h.title == "Margin over random")
    assert headline.note.partition("+3.6")[2] == hint


def test_a_stream_without_shares_names_no_exits(run: Path) -> None:
    shown = load_run(run)
    shown.stream = [replace(row, shares={}) for row in shown.stream]
    shown.policy_gains = [replace(row, rank1_gain=-0.02) for row in shown.policy_gains]
    (headline,) = (h for h in headlines(shown) if h.title == "Margin over random")
    assert headline.note.startswith("Rank-1 at equal mean cost, mean over 50 budgets")
    assert headline.note.endswith("+3.6")
