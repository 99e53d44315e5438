"""A budgeted stream that really stops: each query runs no further than the exit it leaves by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import NEEDS, Floats, Lookup, Policy, sure_of
from reid_lab.budget.steps import Steps
from reid_lab.budget.stream import Draws, Rule
from reid_lab.retrieval.embeddings import Ids

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule, State

Rows = NDArray[np.intp]
Go = Callable[[str, Rows], Tensor]  # exit, who goes on of those before -> embeddings (n, D)


@dataclass(frozen=True)
class Answers:
    """Of N queries, in their order.

    Attributes:
        exits: (N,) places in the stream's exits.
        embeddings: N times (D,), each of the query's exit.
        nearest: (N,) rows of the gallery: the nearest image that is not hidden, at that exit.
    """

    exits: Rows
    embeddings: list[Tensor]
    nearest: Rows


class BudgetedStream:
    """Queries come in batches; the survivors of an exit go on together. DaRe, section 4.2.

    Args:
        lookups: exit -> its gallery, cheapest first: by these exits queries may leave. They may
            show a reduced gallery, on which it is decided who leaves.
        rule: who leaves, see stream.py; `RunningQuantile` goes on from batch to batch.
        models: exit -> what `learned` takes, see `thresholds.Calibration`.
        whole: exit -> the gallery that answers; None is `lookups`.
        rows: see Steps.

    Raises:
        ValueError: an exit that the network does not have, or `learned` without its models.
    """

    def __init__(
        self,
        module: ReidModule,
        lookups: Mapping[str, Lookup],
        policy: Policy,
        rule: Rule,
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

    @torch.inference_mode()
    def __call__(self, images: Tensor, query: Ids) -> Answers:
        """Images (N, 3, H, W) -> their answers.

        Args:
            query: its `camids` say what is hidden; its `pids` are read by `oracle` only.
        """
        state: State = (images,)

        def go(exit: str, kept: Rows) -> Tensor:
            nonlocal state
            if len(kept) < len(state[0]):
                rows = torch.from_numpy(kept).to(images.device)
                state = tuple(t[rows] for t in state)
            state, embeddings = self._steps.advance(exit, state)
            return embeddings

        return self._answer(go, query)

    def replay(self, embeddings: Mapping[str, Tensor], query: Ids) -> Answers:
        """The same from every exit's stored embeddings (N, D): what would it have answered?"""
        alive: np.ndarray = np.arange(len(query))

        def go(exit: str, kept: Rows) -> Tensor:
            nonlocal alive
            alive = alive[kept]
            return embeddings[exit][torch.from_numpy(alive)]

        return self._answer(go, query)

    def _answer(self, go: Go, query: Ids) -> Answers:
        noise, within = self._draws.take(len(query))
        left = np.zeros(len(query), dtype=np.intp)
        nearest = np.zeros(len(query), dtype=np.intp)
        rows: list[Tensor] = [torch.empty(0)] * len(query)
        alive: np.ndarray = np.arange(len(query))
        kept = alive
        for s, exit in enumerate(self.exits):
            embeddings = go(exit, kept)
            mine = query if len(alive) == len(query) else query.take(torch.from_numpy(alive))
            leaves: np.ndarray = np.ones(len(alive), dtype=bool)
            found = None
            if s < len(self.exits) - 1:
                sure, found = self._sure(exit, embeddings, mine, noise[alive, s])
                leaves = self.rule.leave(s, sure, within[alive, s])
            out = np.flatnonzero(leaves)
            if len(out):
                seen = found if self.whole is self.lookups else None
                nearest[alive[out]] = self._nearest(exit, embeddings, mine, out, seen)
                left[alive[out]] = s
                for place, i in zip(out.tolist(), alive[out].tolist(), strict=True):
                    rows[i] = embeddings[place]
            kept = np.flatnonzero(~leaves)
            alive = alive[kept]
            if not len(alive):
                break
        return Answers(left, rows, nearest)

    def _nearest(
        self, exit: str, embeddings: Tensor, query: Ids, out: Rows, seen: Rows | None
    ) -> Rows:
        """Of the queries in places `out`; `seen` (n,) if all were looked for already."""
        if seen is not None:
            return seen[out]
        rows = torch.from_numpy(out)
        some = embeddings[rows.to(embeddings.device)]
        return self.whole[exit].looks(some, query.take(rows), ("nearest",))[1]

    def _sure(
        self, exit: str, embeddings: Tensor, query: Ids, noise: Floats
    ) -> tuple[Floats, Rows | None]:
        """(n,) how sure `exit` is, and the nearest row of its gallery if it was looked for."""
        if self.policy == "random":
            return noise, None
        looks, nearest = self.lookups[exit].looks(embeddings, query, NEEDS[self.policy])
        return sure_of(self.policy, looks, self.models.get(exit)), nearest
