"""What is kept of a test's errors: the worst queries and the pairs of cameras."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reid_lab.callbacks import RankedLists, ranking
from reid_lab.protocol import Protocol
from reid_lab.results import Results
from reid_lab.retrieval import Embeddings, Evaluation, Exit, evaluate
from tests.retrieval.people import crowd

MODEL: Any = SimpleNamespace(exit_names=("a", "b"), stream_exits=("a", "b"))


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    query, gallery, q, g = crowd(1, noise=1.0)
    exits = {"a": Exit(query[:, :2], gallery[:, :2], 1), "b": Exit(query, gallery, 2)}
    return evaluate(Embeddings(q, g, exits))


def test_the_worst_queries_are_those_of_the_lowest_ap(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    results = Results()
    RankedLists(each=3, top=5).add(results, evaluation, MODEL)
    results.write(tmp_path)
    kept = json.loads((tmp_path / "queries.json").read_text())["queries"]
    worst = [query for query in kept if query["group"] == "worst"]
    ranking = evaluation.rankings["b"]
    wrong = (ranking.answerable[0] & (ranking.first[0] > 0)).nonzero().flatten().tolist()
    expected = sorted(wrong, key=lambda i: float(ranking.ap[0, i]))[:3]
    assert [query["path"] for query in worst] == [f"{i}.jpg" for i in expected]
    for query, i in zip(worst, expected, strict=True):
        assert query["first_match"] == int(ranking.first[0, i]) + 1 > 1
        (shots,) = query["ranked"].values()
        assert list(query["ranked"]) == ["b"] and len(shots) == 5 and not shots[0]["match"]


def test_right_queries_are_not_among_the_worst() -> None:
    query, gallery, q, g = crowd(1, noise=0.0)
    perfect = evaluate(
        Embeddings(q, g, {"a": Exit(query, gallery, 1), "b": Exit(query, gallery, 1)})
    )
    results = Results()
    RankedLists().add(results, perfect, MODEL)
    assert results.queries and all(query.group != "worst" for query in results.queries)


def test_camera_pairs_of_several_cameras(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ranking.rank_camera_pairs(evaluation, "b", 1e9)
    assert {row.exit for row in rows} == {"b"} and len(rows) == 6
    monkeypatch.setattr(ranking, "MOST_CAMERAS", 2)
    with pytest.warns(UserWarning, match="3 cameras, at most 2"):
        assert ranking.rank_camera_pairs(evaluation, "b", 1e9) == []


def test_one_camera_has_no_pairs() -> None:
    query, gallery, q, g = crowd()
    q.camids.fill_(1)
    g.camids.fill_(1)
    one = evaluate(Embeddings(q, g, {"b": Exit(query, gallery, 1)}), protocol=Protocol("nothing"))
    assert ranking.rank_camera_pairs(one, "b", 1e9) == []
