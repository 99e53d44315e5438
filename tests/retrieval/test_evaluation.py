"""Exits under protocols: pooling, trials, re-ranking, and the table that comes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.budget.policies import Lookup, candidates_under
from reid_lab.protocol import ALL_AGAINST_ALL, SINGLE_SHOT, Protocol
from reid_lab.retrieval import (
    Embeddings,
    Evaluation,
    Exit,
    Ids,
    KReciprocal,
    QueryExpansion,
    evaluate,
    rank,
)
from reid_lab.retrieval.evaluation import trials
from reid_lab.retrieval.space import Space
from reid_lab.retrieval.verification import roc
from tests.retrieval.people import Sides, crowd, euclidean, ids, naive, same, seen


def evaluated(sides: Sides, protocol: Protocol = Protocol()) -> Evaluation:  # noqa: B008
    query, gallery, q, g = sides
    return evaluate(Embeddings(q, g, {"x": Exit(query, gallery, 5)}), protocol=protocol)


def test_the_other_cameras_only() -> None:
    query, gallery, q, g = crowd(0)
    ranking = evaluated((query, gallery, q, g), Protocol("same_camera")).rankings["x"]
    expected = naive(euclidean(query, gallery), q, g, "same_camera")
    assert ranking.summary() == pytest.approx(expected, abs=1e-12)
    own = rank(query, gallery, q, g)  # in the queries' order, whatever the cameras
    assert ranking.answerable.equal(own.answerable)


def test_all_against_all() -> None:
    _, rows, _, g = crowd(0, images=60)
    who = (g.pids > 0).nonzero().flatten()
    evaluation = evaluated((rows[who], rows, g.take(who), g), ALL_AGAINST_ALL)
    expected = naive(euclidean(rows[who], rows), g.take(who), g, "itself")
    assert evaluation.rankings["x"].summary() == pytest.approx(expected, abs=1e-12)
    names = [match["path"] for match in evaluation.ranked_list("x", 5, 60)]
    visible = [str(g.paths[i]) for i in range(60) if g.pids[i] >= 0 and i != who[5]]
    assert sorted(names) == sorted(visible)
    pairs = np.triu(np.ones((60, 60)), 1)  # a pair of images counts from both sides
    people = (g.pids[:, None] == g.pids[None]) & (g.pids > 0)
    space = Space.of(rows[who], rows, "euclidean")
    assert roc(space, g.take(who), g, "itself").genuine == 2 * (people.numpy() * pairs).sum()
    looked = Lookup(rows, g, candidates=candidates_under(ALL_AGAINST_ALL))
    features, _ = looked.features(rows[who], g.take(who))
    away = euclidean(rows, rows) + np.diag([np.inf] * 60)
    away[:, (g.pids == -1).numpy()] = np.inf
    assert features["nearest"] == pytest.approx(away[who].min(1), rel=1e-5)


@pytest.mark.parametrize("options", [{"query": "multi"}, {"shots": 1}])
def test_all_against_all_draws_and_pools_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="multi|shots"):
        replace(ALL_AGAINST_ALL, **options)


def test_single_shot_is_the_mean_over_drawn_galleries() -> None:
    query, gallery, q, g = crowd(1)
    protocol = replace(SINGLE_SHOT, trials=7, seed=3)
    ranking = evaluated((query, gallery, q, g), protocol).rankings["x"]
    assert ranking.first.shape == (7, 30)
    one, distances = [], euclidean(query, gallery)
    for groups in trials(q, g, protocol):
        cmc = []
        for rows, shown in groups:
            people = g.pids[shown]
            named = people[people > 0]
            assert len(named) == len(named.unique())  # one image a person
            assert (g.camids[shown] != q.camids[rows[0]]).all()
            assert (people == 0).sum() == ((g.pids == 0) & (g.camids != q.camids[rows[0]])).sum()
            for i in rows.tolist():
                kept = [j for j in shown.tolist() if seen(q, g, i, j, "same_camera")]
                order = sorted(kept, key=lambda j: (distances[i, j], j))
                if q.pids[i] in g.pids[shown]:
                    cmc.append(bool(g.pids[order[0]] == q.pids[i]))
        one.append(np.mean(cmc))
    assert ranking.rank1 == pytest.approx(np.mean(one))
    assert same(evaluated((query, gallery, q, g), protocol).rankings["x"], ranking)
    other = evaluated((query, gallery, q, g), replace(protocol, seed=4)).rankings["x"]
    assert not same(other, ranking)


def test_tracklets_are_the_means_of_their_images() -> None:
    q = ids(np.array([1, 1, 2]), np.array([1, 1, 1]), np.array([5, 5, 5]))
    g = ids(np.array([1, 2, 1, 2]), np.array([2, 2, 2, 2]), np.array([1, 1, 1, 2]))
    query = torch.tensor([[1.0], [3], [7]])
    gallery = torch.tensor([[2.0], [6], [4], [8]])
    e = evaluated((query, gallery, q, g), Protocol(tracklets=True)).embeddings
    assert e.exits["x"].query.flatten().tolist() == [2, 7]
    assert e.exits["x"].gallery.flatten().tolist() == [3, 6, 8]
    assert e.gallery.pids.tolist() == [1, 2, 2]
    assert e.gallery.paths.tolist() == ["0.jpg", "1.jpg", "3.jpg"]
    with pytest.raises(ValueError, match="no track numbers"):
        evaluated(crowd(), Protocol(tracklets=True))


@pytest.mark.parametrize(("pooling", "expected"), [("mean", [2.0, 2, 9]), ("max", [3.0, 3, 9])])
def test_a_multi_query_takes_its_camera_s_images(pooling: str, expected: list[float]) -> None:
    q = ids(np.array([1, 1, 2]), np.array([1, 1, 1]))
    g = ids(np.array([1, 1, 2, -1]), np.array([1, 2, 2, 1]))
    query, gallery = torch.tensor([[1.0], [2], [9]]), torch.tensor([[3.0], [5], [6], [7]])
    protocol = Protocol(query="multi", pooling=pooling)  # type: ignore[arg-type]
    e = evaluated((query, gallery, q, g), protocol).embeddings.exits["x"]
    assert e.query.flatten().tolist() == expected  # images 1, 2 and the hidden 3
    assert e.gallery.equal(gallery)


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 4.0), ("max", 7.0)])
def test_a_multi_query_takes_its_own_images(pooling: str, expected: float) -> None:
    q, g = (ids(np.array([1, 2]), np.array([1, 1])), ids(np.array([1, 1, 2]), np.array([1, 2, 2])))
    more = ids(np.array([1, 1, 1]), np.array([1, 1, 2]))
    multi_query = torch.tensor([[4.0], [7], [50]])
    query, gallery = torch.tensor([[1.0], [9]]), torch.tensor([[4.0], [5], [6]])
    protocol = Protocol(query="multi", pooling=pooling)  # type: ignore[arg-type]
    exit = Exit(query, gallery, 1, multi_query=multi_query)
    e = evaluate(Embeddings(q, g, {"x": exit}, more), protocol=protocol).embeddings
    assert e.exits["x"].query.flatten().tolist() == [expected, 9]  # the second has none
    single = evaluate(Embeddings(q, g, {"x": exit}, more)).embeddings
    assert single.exits["x"].query.equal(query)
    with pytest.raises(ValueError, match="needs 3 multi-query images"):
        Embeddings(q, g, {"x": Exit(query, gallery, 1)}, more)


def test_protocols_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="hidden=nothing"):
        Protocol(hidden="nothing", query="multi")
    with pytest.raises(ValueError, match="set shots"):
        Protocol(trials=3)
    with pytest.raises(ValueError, match="shots=1"):
        Protocol(shots=1)


def test_ranked_list_has_no_junk() -> None:
    q = ids(np.array([1]), np.array([1]))
    g = ids(np.array([1, 2, 1, -1]), np.array([1, 2, 2, 2]))
    gallery = torch.tensor([[0.1], [1], [2], [0.5]])
    evaluation = evaluated((torch.tensor([[0.1]]), gallery, q, g))
    listed = evaluation.ranked_list("x", 0, top=10)
    assert [(e["path"], e["match"]) for e in listed] == [("1.jpg", False), ("2.jpg", True)]
    assert [e["distance"] for e in listed] == pytest.approx([0.9, 1.9])
    (row,) = evaluation.table()
    assert (row["name"], row["kind"], row["mul_adds"], row["dim"]) == ("x", "exit", 5, 1)


def test_the_table_has_what_was_ranked_again() -> None:
    query, gallery, q, g = crowd(2)
    exits = {"x": Exit(query, gallery, 5), "hsv": Exit(query, gallery, 1, reference=True)}
    rerankers = [KReciprocal(k1=4, k2=2), QueryExpansion()]
    evaluation = evaluate(Embeddings(q, g, exits), rerankers=rerankers)
    names = [(row["name"], row["kind"]) for row in evaluation.table()]
    assert names == [
        ("x", "exit"),
        ("hsv", "reference"),
        ("x + k_reciprocal", "reranked"),
        ("x + query_expansion", "reranked"),
    ]
    assert evaluation.table()[0]["skipped"] == int((~rank(query, gallery, q, g).answerable).sum())


def test_bad_embeddings_name_the_row() -> None:
    q, g = ids(np.array([1]), np.array([1])), ids(np.array([1, 2]), np.array([2, 2]))
    one, two = torch.ones(1, 2), torch.ones(2, 2)

    def embeddings(query: torch.Tensor, gallery: torch.Tensor, images: Ids = g) -> Embeddings:
        return Embeddings(q, images, {"fusion": Exit(query, gallery, 1)})

    nan = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    with pytest.raises(ValueError, match=r"gallery embeddings are not finite.*row 1 \(1\.jpg\)"):
        embeddings(one, nan)
    with pytest.raises(ValueError, match=r"query embeddings are only zeros.*row 0 \(0\.jpg\)"):
        embeddings(torch.zeros(1, 2), two)
    with pytest.raises(ValueError, match="has 1 query and 1 gallery"):
        embeddings(one, one)
    twice = Ids(g.pids, g.camids, np.array(["a.jpg", "a.jpg"], dtype=object))
    with pytest.raises(ValueError, match=r"gallery row 1 is the same image as row 0 \(a\.jpg\)"):
        embeddings(one, two, twice)
    apart = ids(np.array([3, 4]), np.array([2, 2]))
    with pytest.raises(ValueError, match="none of 1 queries"):
        evaluate(embeddings(one, two, apart))
