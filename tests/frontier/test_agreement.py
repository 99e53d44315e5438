"""How far a synthetic set ranks methods as CUHK03 does."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.synthetic_varied.__main__ import CHANCE, agreement


def row(run: str, name: str, rank1: float, kind: str = "exit") -> dict[str, Any]:
    return {"run": run, "name": name, "kind": kind, "rank1": rank1, "mAP": -rank1}


def tables(*varied: float) -> list[dict[str, Any]]:
    exits = [("dare", "stage1"), ("dare", "fusion"), ("lomo", "xqda"), ("scratch", "stage1")]
    real = [row(f"{m}_cuhk03", name, i) for i, (m, name) in enumerate(exits)]
    return real + [row(f"{m}_varied", n, v) for (m, n), v in zip(exits, varied, strict=True)]


def test_the_correlation_of_two_orders() -> None:
    histograms = [row(f"{m}_cuhk03", "hsv", 9, "reference") for m in ("dare", "lomo")]
    histograms += [row(f"{m}_varied", "hsv", 9, "reference") for m in ("dare", "lomo")]
    found = agreement(tables(1, 2, 3, 4) + histograms, CHANCE)
    assert [r["spearman"] for r in found] == pytest.approx([1] * 6)
    # a reference is the same in every run: it counts once; one exit of the four is at chance, and
    # one is an early exit
    expected = {("all", 5), ("last", 4), ("without_chance", 4)}
    assert {(r["over"], r["exits"]) for r in found} == expected
    found = agreement(tables(2, 1, 3, 4), CHANCE)
    every, last, others = (r for r in found if r["measure"] == "rank1")
    assert every["spearman"] == pytest.approx(0.8)
    assert others["spearman"] == pytest.approx(0.5) and last["spearman"] == pytest.approx(1)
    assert {row["over"] for row in agreement(tables(2, 1, 3, 4))} == {"all", "last"}


def test_sets_of_other_exits_are_not_compared() -> None:
    with pytest.raises(ValueError, match="varied and cuhk03 differ in .*hist"):
        agreement([*tables(1, 2, 3, 4), row("lomo_varied", "hist", 1)])
