"""Thresholds of the policies, from people whom the network was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import (
    NEEDS,
    Candidates,
    Floats,
    Lookup,
    Policy,
    as_matrix,
    candidates_under,
    sure_of,
)
from reid_lab.budget.stream import FixedThresholds
from reid_lab.errors import UserError
from reid_lab.retrieval.evaluation import Evaluation
from reid_lab.retrieval.space import MetricName

KEY = "EarlyExitThresholds"  # among a checkpoint's callbacks


@dataclass(frozen=True)
class Calibration:
    """How sure the policies were of Q held-out queries: thresholds for any budget follow.

    Attributes:
        exits: S of them, cheapest first.
        confidences: policy -> (S, Q). All of them, since who comes to an exit depends on who
            left before; `random` needs none.
        models: exit -> the model of `learned`.
        held_out: whether the network was trained without these people.
    """

    exits: tuple[str, ...]
    confidences: Mapping[Policy, Floats] = field(repr=False)
    models: Mapping[str, Logistic] = field(repr=False)
    metric: MetricName
    candidates: Candidates
    held_out: bool

    @property
    def queries(self) -> int:
        return next(iter(self.confidences.values())).shape[1]

    def rule(self, policy: Policy, probabilities: Floats) -> FixedThresholds:
        """The thresholds by which q_s of those held-out queries that come to exit s leave it.

        Args:
            probabilities: (S,) q_s, see `stream.exit_probabilities`.
        """
        if policy == "random":
            return FixedThresholds(1 - probabilities[:-1])
        thresholds = []
        alive = np.arange(self.queries)
        for sure, q in zip(self.confidences[policy][:-1], probabilities[:-1], strict=True):
            threshold = _threshold(sure[alive], q)
            thresholds.append(threshold)
            alive = alive[sure[alive] < threshold]
        return FixedThresholds(thresholds)

    def state(self) -> dict[str, Any]:
        """Plain types and tensors, for a checkpoint."""
        return {
            "exits": list(self.exits),
            "confidences": {k: torch.from_numpy(v) for k, v in self.confidences.items()},
            "models": {
                name: [torch.from_numpy(x) for x in (model.mean, model.scale, model.weights)]
                for name, model in self.models.items()
            },
            "metric": self.metric,
            "candidates": self.candidates,
            "held_out": self.held_out,
        }

    @staticmethod
    def of_state(state: Mapping[str, Any]) -> Calibration:
        models = {k: Logistic(*(x.numpy() for x in v)) for k, v in state["models"].items()}
        confidences = {k: v.numpy() for k, v in state["confidences"].items()}
        plain = (state["metric"], state["candidates"], state["held_out"])
        return Calibration(tuple(state["exits"]), confidences, models, *plain)


def calibration_of(checkpoint: Mapping[str, Any]) -> Calibration:
    """What a run's `callbacks.thresholds` left in its checkpoint, as `torch.load` gives it.

    Raises:
        UserError: there is none.
    """
    state = checkpoint.get("callbacks", {}).get(KEY)
    if not state:
        raise UserError(
            "the checkpoint holds no early-exit thresholds: train to the end with "
            "callbacks.thresholds, on a method with two exits or more"
        )
    return Calibration.of_state(state)


def calibrate(
    evaluation: Evaluation,
    exits: Sequence[str],
    candidates: Candidates = "other_cameras",
    held_out: bool = True,
) -> Calibration:
    """How sure each policy is of the queries of `evaluation`, and models of when it is right.

    Raises:
        ValueError: a learned metric, which a checkpoint does not keep.
    """
    if not isinstance(evaluation.metric, str):
        raise ValueError("thresholds are kept for euclidean, cosine or l1 distances only")
    e, metric = evaluation.embeddings, evaluation.metric
    candidates = candidates_under(evaluation.protocol, candidates)
    models: dict[str, Logistic] = {}
    columns: dict[Policy, list[Floats]] = {p: [] for p in NEEDS if p != "random"}
    for name in exits:
        exit, ranking = e.exits[name], evaluation.rankings[name]
        looks, _ = Lookup(exit.gallery, e.gallery, metric, candidates).looks(exit.query, e.query)
        asked = ranking.answerable[0].numpy()
        right = (ranking.first[0] < 1).numpy()[asked]
        models[name] = Logistic.fit(as_matrix(looks)[asked], right)
        for policy, column in columns.items():
            column.append(sure_of(policy, looks, models[name]))
    confidences = {policy: np.stack(column) for policy, column in columns.items()}
    return Calibration(tuple(exits), confidences, models, metric, candidates, held_out)


def _threshold(sure: Floats, q: float) -> float:
    """The confidence that a share `q` of `sure` (n,) reaches."""
    leaving = round(q * len(sure))
    if leaving == 0:
        return np.inf
    if leaving == len(sure):
        return -np.inf
    last, first = np.sort(sure)[::-1][leaving - 1 : leaving + 1]  # who leaves, who stays
    return float((last + first) / 2) if np.isfinite(last + first) else float(last)
