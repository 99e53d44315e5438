"""Which queries are shown as easy and as hard: DaRe, figure 8."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from reid_lab.callbacks.ranked_lists import RankedLists
from reid_lab.retrieval import Evaluation, evaluate
from tests.budget.people import people

EXITS = ("stage1", "stage2", "stage3")


def chosen(evaluation: Evaluation) -> dict[str, list[int]]:
    model: Any = SimpleNamespace(exit_names=EXITS, stream_exits=EXITS)
    return RankedLists(each=1000)._choose(evaluation, model)


def test_hard_queries_are_wrong_until_the_last_exit() -> None:
    evaluation = evaluate(people(60, seed=1))
    right = torch.stack([evaluation.rankings[name].first[0] < 1 for name in EXITS])  # (S, Q)
    groups = chosen(evaluation)
    hard = ~right[0] & ~right[1] & right[2]
    assert 0 < len(groups["hard"]) < int((~right[0] & right[2]).sum())
    assert sorted(groups["hard"]) == hard.nonzero().flatten().tolist()
    assert sorted(groups["easy"]) == right[0].nonzero().flatten().tolist()
