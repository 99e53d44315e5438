"""The frontier of the network that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reid_lab.errors import UserError
from reid_lab.results.rows.accuracy import EXITS, ExitRow
from reid_lab.results.rows.budget import STREAM, StreamRow
from reid_lab.serve.frontier import ServedAccuracy, read_frontier
from tests.serve.network import Colours

NAN = float("nan")


def a_run(run: Path, first: str = "early", **other: Any) -> Path:
    """A run whose test has the exits of `Colours`, and a stream of two policies."""
    (run / "results").mkdir(parents=True)
    same = {"dim": 3, "rank5": 1, "rank10": 1, "rank20": 1, "mINP": 0.1, "queries": 9, "skipped": 0}
    rows = [
        ExitRow(
            **{
                **same,
                "name": name,
                "kind": kind,
                "mul_adds": cost,
                "rank1": r,
                "mAP": r / 2,
                **other,
            }
        )
        for name, kind, cost, r in [
            (first, "exit", 1_000, 0.2),
            ("late", "exit", 4_000, 0.6),
            ("late + k_reciprocal", "reranked", 4_000, 0.8),
            ("lomo", "reference", 9, 0.1),
        ]
    ]
    EXITS.write(run / "results" / EXITS.file, rows)
    stream = [
        StreamRow(policy=policy, planned=2_000, realised=2_001, a=NAN, rank1=r, mAP=r / 2)
        for policy, r in [("random", 0.3), ("margin", 0.5)]
    ]
    STREAM.write(run / "results" / STREAM.file, stream)
    return run


def test_exits_and_the_policys_stream(tmp_path: Path) -> None:
    found = read_frontier(a_run(tmp_path / "run"), Colours().manifest, "margin")
    assert found == [
        ServedAccuracy("early", 1_000, 0.2, 0.1),
        ServedAccuracy("", 2_001, 0.5, 0.25),
        ServedAccuracy("late", 4_000, 0.6, 0.3),
    ]


def test_runs_that_do_not_fit(tmp_path: Path) -> None:
    manifest = Colours().manifest
    for name, other, message in [
        ("cost", {"mul_adds": 7}, "early .* costs 7 Mul-Adds, the export has 1,000 Mul-Adds"),
        ("name", {"first": "x"}, "exit x .* costs 1,000 Mul-Adds, the export has no such exit"),
        ("views", {"views": 10}, "with 10 views .* dataset.transforms.test_views=1"),
    ]:
        with pytest.raises(UserError, match=message):
            read_frontier(a_run(tmp_path / name, **other), manifest, "margin")
    with pytest.raises(UserError, match="no results of a test"):
        read_frontier(tmp_path, manifest, "margin")
