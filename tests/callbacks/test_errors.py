"""What is kept of a test's errors: the worst queries and the pairs of cameras."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reid_lab.callbacks import RankedLists, ranking
from reid_lab.protocol import Protocol
from reid_lab.retrieval import Embeddings, Evaluation, Exit, evaluate
from tests.retrieval.people import crowd

MODEL: Any = SimpleNamespace(exit_names=("a", "b"))


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    query, gallery, q, g = crowd(1, noise=1.0)
    exits = {"a": Exit(query[:, :2], gallery[:, :2], 1), "b": Exit(query, gallery, 2)}
    return evaluate(Embeddings(q, g, exits))


def test_the_worst_queries_are_those_of_the_lowest_ap(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    RankedLists(tmp_path, each=3, top=5).work(evaluation, MODEL)
    kept = json.loads((tmp_path / "results" / "queries.json").read_text())["queries"]
    worst = [query for query in kept if query["group"] == "worst"]
    ranking = evaluation.rankings["b"]
    wrong = (ranking.answerable[0] & (ranking.first[0] > 0)).nonzero().flatten().tolist()
    expected = sorted(wrong, key=lambda i: float(ranking.ap[0, i]))[:3]
    assert [query["path"] for query in worst] == [f"{i}.jpg" for i in expected]
    for query, i in zip(worst, expected, strict=True):
        assert query["first_match"] == int(ranking.first[0, i]) + 1 > 1
        (shots,) = query["ranked"].values()
        assert list(query["ranked"]) == ["b"] and len(shots) == 5 and not shots[0]["match"]


def test_right_queries_are_not_among_the_worst(tmp_path: Path) -> None:
    query, gallery, q, g = crowd(1, noise=0.0)
    perfect = evaluate(
        Embeddings(q, g, {"a": Exit(query, gallery, 1), "b": Exit(query, gallery, 1)})
    )
    RankedLists(tmp_path).work(perfect, MODEL)
    kept = json.loads((tmp_path / "results" / "queries.json").read_text())["queries"]
    assert kept and all(query["group"] != "worst" for query in kept)


def test_camera_pairs_are_written_where_they_say_something(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "camera_pairs.csv"
    ranking.write_camera_pairs(path, evaluation, "b", 1e9)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["exit"] for row in rows} == {"b"} and len(rows) == 6
    monkeypatch.setattr(ranking, "MOST_CAMERAS", 2)
    with pytest.warns(UserWarning, match="3 cameras, at most 2"):
        ranking.write_camera_pairs(tmp_path / "many.csv", evaluation, "b", 1e9)
    assert not (tmp_path / "many.csv").exists()


def test_one_camera_has_no_pairs(tmp_path: Path) -> None:
    query, gallery, q, g = crowd()
    q.camids.fill_(1)
    g.camids.fill_(1)
    one = evaluate(Embeddings(q, g, {"b": Exit(query, gallery, 1)}), protocol=Protocol("nothing"))
    ranking.write_camera_pairs(tmp_path / "one.csv", one, "b", 1e9)
    assert not (tmp_path / "one.csv").exists()
