"""Thresholds of the policies, fitted on held-out identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import (
    NEEDS,
    NOISE,
    TEMPERATURE,
    Candidates,
    Policy,
    as_matrix,
    candidates_under,
    confidence_of,
    lookups_of,
)
from reid_lab.budget.router import Indices, Mask, route
from reid_lab.budget.stream import FixedExitThresholds
from reid_lab.cost.currency import Floats
from reid_lab.errors import UserError
from reid_lab.retrieval.evaluation import Evaluation
from reid_lab.retrieval.space import MetricName

KEY = "EarlyExitThresholds"  # key among a checkpoint's callbacks


@dataclass(frozen=True)
class ExitCalibration:
    """The confidences of Q held-out queries, from which thresholds for any budget follow.

    Attributes:
        exits: names of the S exits, cheapest first.
        confidences: policy -> (S, Q) confidences of all queries at each exit, since the queries
            that reach an exit depend on the earlier thresholds. `random` and `geometric` need
            none.
        models: exit -> model of the policy `learned`.
        metric: metric of the distances.
        candidates: see Lookup.
        held_out: whether the network was trained without these identities.
        temperature: see Lookup.
    """

    exits: tuple[str, ...]
    confidences: Mapping[Policy, Floats] = field(repr=False)
    models: Mapping[str, Logistic] = field(repr=False)
    metric: MetricName
    candidates: Candidates
    held_out: bool
    temperature: float = TEMPERATURE

    @property
    def queries(self) -> int:
        result: int = next(iter(self.confidences.values())).shape[1]
        return result

    def rule(self, policy: Policy, probabilities: Floats) -> FixedExitThresholds:
        """Thresholds such that a share q_s of the held-out queries that reach exit s exits there.

        Args:
            probabilities: (S,) q_s, see `stream.exit_probabilities`.
        """
        if policy in NOISE:
            return FixedExitThresholds(1 - probabilities[:-1])
        confidences = self.confidences[policy]  # (S, Q)
        thresholds = np.full(len(confidences) - 1, np.inf)

        def exits_here(s: int, remaining: Indices, reached: Floats) -> Mask:
            thresholds[s] = _threshold(reached, probabilities[s])
            result: Mask = reached >= thresholds[s]
            return result

        route(
            self.queries,
            len(confidences),
            lambda s, remaining, kept: confidences[s, remaining],
            exits_here,
        )
        return FixedExitThresholds(thresholds)

    def state(self) -> dict[str, Any]:
        """Plain types and tensors for a checkpoint."""
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
            "temperature": self.temperature,
        }

    @staticmethod
    def of_state(state: Mapping[str, Any]) -> ExitCalibration:
        models = {k: Logistic(*(x.numpy() for x in v)) for k, v in state["models"].items()}
        confidences = {k: v.numpy() for k, v in state["confidences"].items()}
        plain = (state["metric"], state["candidates"], state["held_out"])
        temperature = state.get("temperature", TEMPERATURE)  # not in older checkpoints
        return ExitCalibration(tuple(state["exits"]), confidences, models, *plain, temperature)


def exit_calibration_of(checkpoint: Mapping[str, Any]) -> ExitCalibration:
    """The exit calibration that `callbacks.exit_thresholds` saved in a checkpoint.

    Raises:
        UserError: the checkpoint has none.
    """
    state = checkpoint.get("callbacks", {}).get(KEY)
    if not state:
        raise UserError(
            "the checkpoint holds no early-exit thresholds: train to the end with "
            "callbacks.exit_thresholds, on a method with two exits or more"
        )
    return ExitCalibration.of_state(state)


def fit_exit_calibration(
    evaluation: Evaluation,
    exits: Sequence[str],
    candidates: Candidates = "other_cameras",
    held_out: bool = True,
    temperature: float = TEMPERATURE,
) -> ExitCalibration:
    """The confidences of the queries of `evaluation`, and fitted models for `learned`.

    Raises:
        ValueError: a learned metric, which is not saved in a checkpoint.
    """
    if not isinstance(evaluation.metric, str):
        raise ValueError(
            "thresholds need callbacks.ranking.metric=euclidean, cosine or l1: a learned metric is "
            "not saved in a checkpoint"
        )
    e, metric = evaluation.embeddings, evaluation.metric
    candidates = candidates_under(evaluation.protocol, candidates)
    models: dict[str, Logistic] = {}
    columns: dict[Policy, list[Floats]] = {p: [] for p in NEEDS if p not in NOISE}
    for name, lookup in lookups_of(e, exits, metric, candidates, None, temperature).items():
        ranking = evaluation.rankings[name]
        features, _ = lookup.features(e.exits[name].query, e.query)
        answerable = ranking.answerable[0].numpy()
        right = (ranking.first[0] < 1).numpy()[answerable]
        models[name] = Logistic.fit(as_matrix(features)[answerable], right)
        for policy, column in columns.items():
            column.append(confidence_of(policy, features, models[name]))
    confidences = {policy: np.stack(column) for policy, column in columns.items()}
    options = (metric, candidates, held_out, temperature)
    return ExitCalibration(tuple(exits), confidences, models, *options)


def _threshold(confidence: Floats, q: float) -> float:
    """Threshold that a share `q` of `confidence` (n,) reaches."""
    out = round(q * len(confidence))
    if out == 0:
        return np.inf
    if out == len(confidence):
        return -np.inf
    last, next_one = np.sort(confidence)[::-1][out - 1 : out + 1]  # the least confident to exit
    return float((last + next_one) / 2) if np.isfinite(last + next_one) else float(last)
