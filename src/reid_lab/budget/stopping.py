"""Early exit with a PyTorch network: a query runs no further than the exit it exits at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reid_lab.budget.currency import ExitCosts
from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import NEEDS, NOISE, Lookup, Policy, confidence_of
from reid_lab.budget.router import Indices, Mask, route
from reid_lab.budget.steps import Steps
from reid_lab.budget.stream import Draws, ExitRule, planned_rule
from reid_lab.retrieval.embeddings import Ids

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule, State

# place of an exit, remaining queries (n,), their places at the exit before (n,) -> (n, D)
Advance = Callable[[int, Indices, Indices], Tensor]


@dataclass(frozen=True)
class StreamAnswers:
    """The answers to N queries, in the order of the queries.

    Attributes:
        exits: (N,) index into the stream's exits.
        embeddings: N tensors (D,), each from the query's exit.
        nearest: (N,) gallery row of the nearest visible image at that exit.
    """

    exits: Indices
    embeddings: list[Tensor]
    nearest: Indices


class BudgetedStream:
    """A trained network that stops for a query once it is confident. DaRe, section 4.2.

    Queries arrive in batches; those that remain after an exit continue together.

    Args:
        module: the network.
        lookups: exit -> its gallery, cheapest first: queries exit at these exits. It may be a
            reduced gallery, used for the decision only.
        policy: the confidence, see policies.py. Noise is `random` with a rule of `mixed_shares`,
            `geometric` with one of `exit_shares`.
        rule: which queries exit, see stream.py; `RunningQuantile` continues across batches.
        seed: of the random numbers.
        models: exit -> the model of the policy `learned`, see `thresholds.Calibration`.
        whole: exit -> the gallery that is searched for the answer; None is `lookups`.
        rows: see Steps.

    Raises:
        ValueError: an exit that the network does not have, or `learned` without its models.
    """

    def __init__(
        self,
        module: ReidModule,
        lookups: Mapping[str, Lookup],
        policy: Policy,
        rule: ExitRule,
        seed: int = 0,
        models: Mapping[str, Logistic] | None = None,
        whole: Mapping[str, Lookup] | None = None,
        rows: int = 1,
    ) -> None:
        self._steps = Steps(module, tuple(lookups), rows)
        self.exits = self._steps.exits
        self.lookups, self.whole = lookups, whole or lookups
        self.policy, self.rule, self.models = policy, rule, models or {}
        self._draws = Draws(len(self.exits), seed)
        if policy == "learned" and not set(self.exits[:-1]) <= set(self.models):
            raise ValueError("policy learned needs a model for each exit but the last")

    @classmethod
    def planned(
        cls,
        module: ReidModule,
        lookups: Mapping[str, Lookup],
        costs: ExitCosts,
        budget: float,
        policy: Policy = "margin",
        **options: Any,
    ) -> BudgetedStream:
        """A stream that spends `budget` a query on average, steered.

        Args:
            costs: of the network's exits, in any currency: `ExitCosts.of_mul_adds`, or
                `profile.read_costs` of this machine.
            budget: in the unit of `costs`, matching included where it has a cost.
            options: as those of the constructor.

        Raises:
            ValueError: the budget cannot be met.
        """
        own = costs.select(tuple(lookups))
        rule = planned_rule(own, budget, policy not in NOISE)
        return cls(module, lookups, policy, rule, **options)

    @torch.inference_mode()
    def __call__(self, images: Tensor, query: Ids) -> StreamAnswers:
        """Images (N, 3, H, W) -> their answers.

        Args:
            images: normalised, on the network's device.
            query: its `camids` decide what is hidden; its `pids` are read by `oracle` only.
        """
        state: State = (images,)

        def advance(s: int, remaining: Indices, kept: Indices) -> Tensor:
            nonlocal state
            if len(kept) < len(state[0]):
                rows = torch.from_numpy(kept).to(images.device)
                state = tuple(t[rows] for t in state)
            state, embeddings = self._steps.advance(self.exits[s], state)
            return embeddings

        return self._answer(advance, query)

    def replay(self, embeddings: Mapping[str, Tensor], query: Ids) -> StreamAnswers:
        """The same answers from every exit's stored embeddings (N, D)."""
        return self._answer(
            lambda s, remaining, kept: embeddings[self.exits[s]][torch.from_numpy(remaining)],
            query,
        )

    def _answer(self, advance: Advance, query: Ids) -> StreamAnswers:
        noise, within = self._draws.take(len(query))  # (N, S) each
        exits, nearest = np.zeros((2, len(query)), dtype=np.intp)
        rows: list[Tensor] = [torch.empty(0)] * len(query)
        searched = self.policy not in NOISE and self.whole is self.lookups

        def exits_here(s: int, remaining: Indices, embeddings: Tensor) -> Mask:
            confidence = noise[remaining, s]  # (n,)
            if self.policy not in NOISE:
                exit, some = self.exits[s], query.take(torch.from_numpy(remaining))
                needs = NEEDS[self.policy]
                features, found = self.lookups[exit].features(embeddings, some, needs)
                confidence = confidence_of(self.policy, features, self.models.get(exit))
                nearest[remaining] = found  # kept by those that exit here
            return self.rule.exits_here(s, confidence, within[remaining, s])

        last = len(self.exits) - 1
        for exited in route(len(query), len(self.exits), advance, exits_here):
            exits[exited.queries] = exited.exit
            for i, row in zip(exited.queries.tolist(), exited.rows, strict=True):
                rows[i] = row
            if exited.exit == last or not searched:
                gallery = self.whole[self.exits[exited.exit]]
                some = query.take(torch.from_numpy(exited.queries))
                nearest[exited.queries] = gallery.features(exited.rows, some, ("nearest",))[1]
        return StreamAnswers(exits, rows, nearest)
