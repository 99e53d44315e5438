"""Accuracy by camera pair against the naive protocol on each pair's images alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reid_lab.protocol import Hidden, Protocol
from reid_lab.retrieval import Embeddings, Exit, evaluate, rank
from reid_lab.retrieval.bootstrap import bootstrap
from reid_lab.retrieval.cameras import camera_pairs
from tests.retrieval.people import crowd, naive


@pytest.mark.parametrize("hidden", ["same_person_and_camera", "same_camera", "nothing"])
@pytest.mark.parametrize("shots", [None, 1])
def test_each_pair_is_ranked_alone(hidden: Hidden, shots: int | None) -> None:
    if shots and hidden == "same_person_and_camera":
        pytest.skip("no such protocol")
    query, gallery, q, g = crowd(3)
    protocol = Protocol(hidden=hidden, shots=shots, trials=2 if shots else 1)
    embeddings = Embeddings(q, g, {"x": Exit(query, gallery, 5)})
    rows = camera_pairs(evaluate(embeddings, protocol=protocol), "x")
    pairs = [(row["query_camera"], row["gallery_camera"]) for row in rows]
    every = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b or hidden == "nothing"]
    assert pairs == every
    for row, (a, b) in zip(rows, pairs, strict=True):
        asked = (q.camids == a).nonzero().flatten()
        shown = (g.camids == b).nonzero().flatten()
        distances = torch.cdist(query[asked], gallery[shown]).numpy()
        expected = naive(distances, q.take(asked), g.take(shown), hidden)
        assert {k: row[k] for k in ("rank1", "mAP")} == pytest.approx(
            {k: expected[k] for k in ("rank1", "mAP")}
        )
        people = set(g.pids[shown].tolist()) - {0, -1}
        assert row["queries"] == sum(p in people for p in q.pids[asked].tolist())
        assert row["rank1_low"] <= row["rank1"] <= row["rank1_high"]
        alone = rank(query[asked], gallery[shown], q.take(asked), g.take(shown), hidden=hidden)
        bounds = bootstrap(alone, q.pids[asked])
        assert {name: row[name] for name in bounds} == pytest.approx(bounds)


def test_signs_of_an_exit_are_kept() -> None:
    query, gallery, q, g = crowd(3)
    signs = torch.tensor([1.0, 1, 0, 0])
    plain = Embeddings(q, g, {"x": Exit(query * signs, gallery * signs, 5)})
    signed = Embeddings(q, g, {"x": Exit(query, gallery, 5)})
    signed = replace(signed, exits={"x": replace(signed.exits["x"], signs=signs)})
    assert camera_pairs(evaluate(signed), "x") == camera_pairs(evaluate(plain), "x")
