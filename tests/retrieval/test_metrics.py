"""Against an independent loop that reads like the protocol's text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate, rank
from reid_lab.retrieval.metrics import _places


def ids(pids: np.ndarray, camids: np.ndarray) -> Ids:
    paths = np.array([f"{i}.jpg" for i in range(len(pids))], dtype=object)
    return Ids(torch.from_numpy(pids), torch.from_numpy(camids), paths)


def naive(q: Ids, g: Ids, query: torch.Tensor, gallery: torch.Tensor) -> dict[str, float]:
    ranks, aps, inps = [], [], []
    for i in range(len(q)):
        away = (gallery - query[i]).norm(dim=1).tolist()
        order = sorted(range(len(g)), key=lambda j: (away[j], j))
        kept = [
            j
            for j in order
            if g.pids[j] != -1 and not (g.pids[j] == q.pids[i] and g.camids[j] == q.camids[i])
        ]
        right = [n for n, j in enumerate(kept, 1) if g.pids[j] == q.pids[i]]
        if right:
            ranks.append(right[0])
            aps.append(sum((n + 1) / place for n, place in enumerate(right)) / len(right))
            inps.append(len(right) / right[-1])
    cmc = {f"rank{k}": float(np.mean([r <= k for r in ranks])) for k in (1, 5, 10, 20)}
    return {**cmc, "mAP": float(np.mean(aps)), "mINP": float(np.mean(inps))}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("ties", [True, False])
def test_equals_the_naive_loop(seed: int, chunk: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    q = ids(rng.integers(1, 12, 30), rng.integers(1, 4, 30))
    g = ids(rng.integers(-1, 10, 120), rng.integers(1, 4, 120))  # some queries have no match
    query = torch.from_numpy(rng.integers(0, 3, (30, 4))).float()
    gallery = torch.from_numpy(rng.integers(0, 3, (120, 4))).float()
    if not ties:
        gallery += torch.from_numpy(rng.normal(0, 0.1, gallery.shape)).float()
    summary = rank(query, gallery, q, g, chunk=chunk).summary()
    assert summary == pytest.approx(naive(q, g, query, gallery), abs=1e-6)


def test_places_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    distances = torch.from_numpy(rng.integers(0, 60, (20, 300))).float()  # many ties
    distances[:, :5] = torch.inf  # junk
    match = torch.from_numpy(rng.random((20, 300)) < 0.05)
    match[:, :5] = False
    match[3] = False
    hits = match.gather(1, distances.argsort(dim=1, stable=True))
    for row, places in enumerate(_places(distances, match)):
        expected = (hits[row].nonzero().flatten() + 1).tolist()
        assert places.tolist()[: len(expected)] == expected


def test_by_hand() -> None:
    q = ids(np.array([1, 9]), np.array([1, 1]))
    g = ids(np.array([1, 2, 1, -1, 0, 1]), np.array([1, 2, 2, 2, 2, 3]))
    gallery = torch.tensor([[0.0], [1], [2], [0.5], [3], [4]])
    # person 1: junk, wrong, RIGHT, junk, distractor, RIGHT -> places 2 and 4
    ranking = rank(torch.zeros(2, 1), gallery, q, g)
    assert ranking.first.tolist()[0] == 1
    assert ranking.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert ranking.mINP == pytest.approx(2 / 4)
    assert (ranking.rank1, ranking.cmc(5)) == (0.0, 1.0)
    assert ranking.answerable.tolist() == [True, False]  # nobody is called 9


def test_cosine_ranks_by_angle() -> None:
    q = ids(np.array([1]), np.array([1]))
    g = ids(np.array([1, 2]), np.array([2, 2]))
    gallery = torch.tensor([[10.0, 0.0], [0.9, 0.5]])
    query = torch.tensor([[1.0, 0.0]])
    assert rank(query, gallery, q, g, "cosine").rank1 == 1
    assert rank(query, gallery, q, g, "euclidean").rank1 == 0


def test_bad_input_names_the_row() -> None:
    q, g = ids(np.array([1]), np.array([1])), ids(np.array([1, 2]), np.array([2, 2]))
    bad = torch.tensor([[0.0, 0.0], [float("nan"), 1.0]])
    with pytest.raises(ValueError, match=r"gallery embeddings are not finite.*row 1 \(1\.jpg\)"):
        Embeddings(q, g, {"fusion": Exit(torch.zeros(1, 2), bad, 1)})
    with pytest.raises(ValueError, match="has 1 query and 1 gallery"):
        Embeddings(q, g, {"fusion": Exit(torch.zeros(1, 2), torch.zeros(1, 2), 1)})
    with pytest.raises(ValueError, match="gallery is empty"):
        rank(torch.zeros(1, 2), torch.zeros(0, 2), q, ids(np.array([], int), np.array([], int)))
    with pytest.raises(ValueError, match="2 dimensions, gallery 3"):
        rank(torch.zeros(1, 2), torch.zeros(2, 3), q, g)
    apart = ids(np.array([3, 4]), np.array([2, 2]))
    with pytest.raises(ValueError, match="none of 1 queries"):
        evaluate(Embeddings(q, apart, {"fusion": Exit(torch.zeros(1, 2), torch.zeros(2, 2), 1)}))


def test_ranked_list_has_no_junk() -> None:
    q = ids(np.array([1]), np.array([1]))
    g = ids(np.array([1, 2, 1, -1]), np.array([1, 2, 2, 2]))
    gallery = torch.tensor([[0.0], [1], [2], [0.5]])
    evaluation = evaluate(Embeddings(q, g, {"x": Exit(torch.zeros(1, 1), gallery, 5)}))
    listed = evaluation.ranked_list("x", 0, top=10)
    assert [(e["path"], e["match"]) for e in listed] == [("1.jpg", False), ("2.jpg", True)]
    (row,) = evaluation.table()
    assert (row["name"], row["kind"], row["mul_adds"], row["dim"]) == ("x", "exit", 5, 1)
