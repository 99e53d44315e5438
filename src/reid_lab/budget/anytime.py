"""Anytime re-identification: the budget ends without notice. DaRe, section 4.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reid_lab.retrieval.metrics import Ranking


def exit_at(budget: float, mul_adds: Mapping[str, int]) -> str | None:
    """The most recent exit that `budget` Mul-Adds reach; None when not even the first."""
    reached = [name for name, cost in mul_adds.items() if cost <= budget]
    return reached[-1] if reached else None


def anytime_curve(
    rankings: Mapping[str, Ranking], mul_adds: Mapping[str, int], budgets: Sequence[float]
) -> list[dict[str, Any]]:
    """One row a budget (Mul-Adds an image): the exit that answers, its rank1 and mAP.

    Args:
        mul_adds: cumulative, in the order in which the exits run.
    """
    rows = []
    for budget in budgets:
        name = exit_at(budget, mul_adds)
        answer = {"rank1": 0.0, "mAP": 0.0}  # no exit yet, no answer
        if name is not None:
            answer = {"rank1": rankings[name].rank1, "mAP": rankings[name].mAP}
        rows.append({"mul_adds": budget, "exit": name or "", **answer})
    return rows
