from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from reid_lab.budget.router import Exited, Indices, route


@pytest.mark.parametrize(("queries", "exits"), [(0, 3), (1, 1), (7, 1), (9, 4), (50, 3)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_each_query_exits_where_it_should(queries: int, exits: int, kind: type) -> None:
    """Against a plain loop over queries; the rows of exit s are 100 s + query."""
    rng = np.random.default_rng(queries)
    wanted = rng.integers(0, exits, queries)
    before = np.arange(queries)
    visited: list[tuple[int, list[int]]] = []

    def advance(s: int, remaining: Indices, kept: Indices) -> object:
        nonlocal before
        before = before[kept]  # the places among the rows of the exit before ...
        assert np.array_equal(before, remaining)  # ... are those of the remaining queries
        visited.append((s, remaining.tolist()))
        return kind(100 * s + remaining)

    def exits_here(s: int, remaining: Indices, rows: object) -> np.ndarray:
        assert np.array_equal(np.asarray(rows), 100 * s + remaining)
        return wanted[remaining] == s

    found: list[Exited] = route(queries, exits, advance, exits_here)  # type: ignore[type-var]
    assert visited == [
        (s, [i for i in range(queries) if wanted[i] >= s]) for s in range(exits) if any(wanted >= s)
    ]
    rows = {i: row for e in found for i, row in zip(e.queries.tolist(), e.rows, strict=True)}
    assert {i: int(row) for i, row in rows.items()} == {
        i: 100 * wanted[i] + i for i in range(queries)
    }
    assert [e.exit for e in found] == sorted(set(wanted.tolist()))


def test_rules_and_router_need_no_torch() -> None:
    code = "import sys, reid_lab.budget.stream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
