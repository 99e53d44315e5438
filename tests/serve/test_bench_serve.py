"""The load test's rows: refusals are no errors."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("uvloop")

from experiments.bench_serve.__main__ import Measured, Query, row


def test_refusals_and_errors_are_counted_apart() -> None:
    measured, query = Measured(), Query(b"", ("7",))
    found = {"exit": "late", "late_ms": 0.0, "mul_adds": 4_000, "matches": [{"pid": "7"}]}
    answers = [(200, json.dumps({"results": [found]}).encode())] * 4
    for status, content in [*answers, (503, b""), (503, b""), (503, b""), (500, b""), (408, b"")]:
        measured.add(query, status, content, 0.01)
    made = row("last exit", "twice the capacity", 500.0, measured, seconds=2.0)
    assert (made["queries"], made["refused"], made["errors"]) == (4, 3, 2)
    assert made["sent_per_s"] == 4.5 and made["queries_per_s"] == 2.0 and made["rank1"] == 1.0
