"""The budgeted stream replayed over stored embeddings, for many budgets and policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from reid_lab.budget.stream import (
    Candidates,
    Policy,
    candidates_under,
    confidence,
    exit_probabilities,
    exit_shares,
    route,
    solve_a,
)
from reid_lab.retrieval.evaluation import Evaluation


def check_budgets(costs: Sequence[int], budgets: Sequence[float]) -> None:
    """Whether each mean budget can be met.

    Raises:
        ValueError: naming the first that cannot, and what can.
    """
    for budget in budgets:
        solve_a(np.asarray(costs, dtype=float), budget)


def stream_sweep(
    evaluation: Evaluation,
    exits: Sequence[str],
    policies: Sequence[Policy],
    budgets: Sequence[float],
    candidates: Candidates = "other_cameras",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a policy and budget: planned and realised mean Mul-Adds, rank1, mAP, shares.

    All policies see the same order of queries, shuffled by `seed`; queries without a match
    take part in the stream but not in the accuracies.
    """
    e = evaluation.embeddings
    candidates = candidates_under(evaluation.protocol, candidates)
    costs = np.array([e.exits[name].mul_adds for name in exits], dtype=float)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(e.query))
    rows = []
    for policy in policies:
        confidences = np.stack(
            [
                confidence(
                    e.exits[name], e.query, e.gallery, policy, candidates, evaluation.metric, rng
                )
                for name in exits
            ]
        )
        for budget in budgets:
            a = solve_a(costs, budget)
            q = exit_probabilities(exit_shares(a, len(exits)))
            left = route(confidences, q, order, seed)
            rows.append(
                {
                    "policy": policy,
                    "planned": float(budget),
                    "realised": float(costs[left].mean()),
                    "a": a,
                    **_accuracy(evaluation, exits, left),
                    **{f"share_{name}": float((left == s).mean()) for s, name in enumerate(exits)},
                }
            )
    return rows


def _accuracy(evaluation: Evaluation, exits: Sequence[str], left: np.ndarray) -> dict[str, float]:
    """rank1 and mAP when query i is answered by exit `left[i]`."""
    rankings = [evaluation.rankings[name] for name in exits]
    answerable = rankings[0].answerable  # (T, Q)
    chosen = torch.from_numpy(left).expand(1, *answerable.shape)
    first = torch.stack([r.first for r in rankings]).gather(0, chosen)[0][answerable]
    ap = torch.stack([r.ap for r in rankings]).gather(0, chosen)[0][answerable]
    return {"rank1": (first < 1).double().mean().item(), "mAP": ap.double().mean().item()}
