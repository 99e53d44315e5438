"""Pooling of tracklets and multi-queries, against loops and against what each place did before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.protocol import Protocol
from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
from reid_lab.retrieval.pooling import pool as pool_tensors
from reid_lab.retrieval.pooling import pooled
from reid_lab.vectors import pooling
from reid_lab.vectors.pooling import grouped, pool, spread
from reid_lab.vectors.rows import unit_rows

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 9)).astype(np.float32) * RNG.uniform(0.1, 10, (60, 1)).astype("f")
GROUP = np.concatenate([np.arange(7), RNG.integers(0, 7, 53)])


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "l1"])
@pytest.mark.parametrize("piece", [1 << 26, 1])
def test_pooling_against_a_loop(
    piece: int, metric: str, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "PIECE_BYTES", piece)
    rows = ROWS.astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows
    found = pool(ROWS, GROUP, 7, metric, how)
    assert found.dtype == np.float32
    wanted = [getattr(rows[i == GROUP], how)(0) for i in range(7)]
    np.testing.assert_array_equal(found, np.array(wanted, np.float32))


def test_it_does_what_each_place_did() -> None:
    room = torch.zeros(7, 9)
    index = torch.from_numpy(GROUP)[:, None].expand(-1, 9)
    evaluation = room.scatter_reduce(0, index, torch.from_numpy(ROWS), "mean", include_self=False)
    np.testing.assert_allclose(pool(ROWS, GROUP, 7), evaluation, rtol=1e-5, atol=1e-6)
    for metric in ("euclidean", "cosine"):
        rows = unit_rows(ROWS) if metric == "cosine" else ROWS
        search = np.stack([rows[i == GROUP].mean(0) for i in range(7)])
        np.testing.assert_allclose(pool(ROWS, GROUP, 7, metric), search, rtol=1e-5, atol=1e-6)
        wide = ROWS.astype(np.float64)
        wide = unit_rows(wide) if metric == "cosine" else wide
        service = wide.mean(0).astype(np.float32)
        (found,) = pool(ROWS, np.zeros(60, int), 1, metric)
        np.testing.assert_array_equal(found, service)
        if metric == "cosine":
            far = (1 - wide @ unit_rows(wide.mean(0)[None])[0]).mean()
        else:
            far = np.linalg.norm(wide - wide.mean(0), axis=1).mean()
        assert spread(ROWS, found, metric) == pytest.approx(far, rel=1e-6)


def test_tensors_keep_their_device_and_halves() -> None:
    rows = torch.from_numpy(ROWS)
    for given in (rows.half(), rows.bfloat16(), rows.double().requires_grad_()):
        found = pool_tensors(given, torch.from_numpy(GROUP), 7)
        wanted = pool(given.detach().float().numpy(), GROUP, 7)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert pool(ROWS[:0], GROUP[:0], 0).shape == (0, 9)


@pytest.mark.parametrize("protocol", [Protocol(tracklets=True), Protocol(query="multi")])
def test_an_evaluation_by_cosine_pools_as_a_search_does(protocol: Protocol) -> None:
    zeros = torch.zeros(len(ROWS), dtype=torch.long)
    ids = Ids(torch.from_numpy(GROUP), zeros, np.arange(len(ROWS)), zeros)
    rows = torch.from_numpy(ROWS)
    signs = torch.ones(9)
    exits = {"a": Exit(rows, rows, 1), "signed": Exit(rows, rows, 1, signs=signs)}
    found = pooled(Embeddings(ids, ids, exits), protocol, "cosine").exits
    order = GROUP if protocol.query == "multi" else np.arange(7)
    wanted = pool(ROWS, GROUP, 7, "cosine")[order]
    np.testing.assert_allclose(found["a"].query, wanted, rtol=1e-6)
    np.testing.assert_allclose(found["signed"].query, pool(ROWS, GROUP, 7)[order], rtol=1e-6)


def test_groups_are_numbered_in_the_order_of_their_first() -> None:
    numbers, first = grouped(["b", "a", "b", "c", "a"])
    assert numbers.tolist() == [0, 1, 0, 2, 1] and first.tolist() == [0, 1, 3]
    assert [len(found) for found in grouped([])] == [0, 0]
