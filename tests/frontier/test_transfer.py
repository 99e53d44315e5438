"""Accuracy across data sets: pairs of training and test data, and their mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid_lab.cli.main import main
from reid_lab.frontier.points import FRONTIER, FrontierError, Point, read_points
from reid_lab.frontier.tables import across
from tests.frontier.runs import make_run


def transferred(folder: Path, trained_on: str, dataset: str, rank1: float) -> None:
    """A test of the checkpoint `two` of one data set on another."""
    run = make_run(folder, dataset=dataset, exits={"early": (10e6, rank1)})
    path = run / "results/summary.json"
    more = {"task": "test", "card": {"data": trained_on}}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def exits(table: Path) -> list[Point]:
    return [p for p in read_points(table) if p.kind == "exit"]


def test_pairs_of_data_sets_and_their_mean(tmp_path: Path) -> None:
    for trained_on, dataset, rank1 in (
        ("a", "a", 0.9),
        ("a", "b", 0.5),
        ("b", "a", 0.3),
    ):
        transferred(tmp_path / "sweep" / (trained_on + dataset), trained_on, dataset, rank1)
    out = tmp_path / "out"
    status = main(
        ["frontier", str(tmp_path / "sweep"), "--transfer", "--average", "--out", str(out)]
    )
    assert status == 0
    found = {p.dataset: p for table in out.glob(f"*/{FRONTIER.file}") for p in exits(table)}
    assert {name: (p.method, p.rank1) for name, p in found.items()} == {
        "a to b": ("two", 0.5),
        "b to a": ("two", 0.3),
        "mean of a to b, b to a": ("two", pytest.approx(0.4)),
    }
    assert found["a to b"].trained_on == "a"


def test_a_table_of_all_runs_can_be_drawn_again_across_data_sets(tmp_path: Path) -> None:
    transferred(tmp_path / "sweep/aa", "a", "a", 0.9)
    transferred(tmp_path / "sweep/ca", "c", "a", 0.5)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main(["frontier", str(tmp_path / "sweep"), "--out", str(whole)]) == 0
    assert {p.method for p in exits(whole / FRONTIER.file)} == {"two", "two (trained on c)"}
    again = ["frontier", "--from", str(whole / FRONTIER.file), "--transfer", "--out", str(out)]
    assert main(again) == 0
    (point,) = exits(out / FRONTIER.file)
    assert (point.dataset, point.method, point.rank1) == ("c to a", "two", 0.5)


def test_without_a_transferred_checkpoint() -> None:
    own = Point("a", "two", "exit", "early", rank1=0.5, mAP=0.4, mul_adds=1.0)
    with pytest.raises(FrontierError, match=r"no checkpoint .* \+sweep=transfer"):
        across([own])
