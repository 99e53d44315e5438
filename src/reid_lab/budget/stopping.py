"""Early exit with a PyTorch network: a query runs no further than the exit it exits at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor

from reid_lab.budget.logistic import Logistic
from reid_lab.budget.policies import NEEDS, NOISE, Lookup, Policy, confidence_of
from reid_lab.budget.router import Indices, Mask, route
from reid_lab.budget.steps import Steps
from reid_lab.budget.stream import Draws, ExitRule, planned_rule
from reid_lab.cost.currency import ExitCosts, Floats
from reid_lab.output.arguments import check_choice, check_network, check_type, check_whole
from reid_lab.retrieval.embeddings import Ids

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule, State

# index of an exit, remaining queries (n,), their positions at the exit before (n,) -> (n, D)
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
    """A trained network with early exit: a query exits once it is confident. DaRe, section 4.2.

    Queries arrive in batches. Those that do not exit continue together.

    Args:
        module: the network.
        lookups: exit -> its gallery, cheapest first; queries may take these exits. A reduced
            gallery is used for the decision only. If the exits share the embeddings of one
            (`module.shared_exit`), all have the same `Lookup`.
        policy: measure of confidence, see policies.py. Noise is `random` with a rule of
            `mixed_shares`, `geometric` with one of `exit_shares`.
        rule: which queries exit, see stream.py; `RunningQuantile` continues across batches.
        seed: random seed.
        models: exit -> the model of the policy `learned`, see `exit_calibration.ExitCalibration`.
        whole: exit -> the gallery that is searched for the answer; None is `lookups`.
        rows: see Steps.

    Raises:
        ValueError: unknown exit, `learned` without its models, one gallery for all exits where
            each needs its own, or several where they share one.
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
        check_network("module", module)
        check_type("lookups", lookups, Mapping, "a dict of exits and Lookup(gallery, ids)")
        check_choice("policy", policy, get_args(Policy))
        check_whole("rows", rows)
        self._steps = Steps(module, tuple(lookups), rows)
        self.exits = self._steps.exits
        self.lookups, self.whole = lookups, whole or lookups
        for galleries in (self.lookups, self.whole):
            _check_galleries(module, galleries)
        self.policy, self.rule, self.models = policy, rule, models or {}
        self._draws = Draws(len(self.exits), seed)
        if policy == "learned" and not set(self.exits[:-1]) <= set(self.models):
            missing = set(self.exits[:-1]) - set(self.models)
            raise ValueError(
                f"policy learned needs a model for each exit but the last; give models= with "
                f"{', '.join(sorted(missing))} (of exit_calibration.ExitCalibration)"
            )

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
        """A stream with a mean cost of `budget` per query, steered back to it where it drifts.

        Args:
            costs: costs of the network's exits, in any currency: `ExitCosts.of_mul_adds`, or
                `profile.read_costs` of this machine.
            budget: in the unit of `costs`, matching included where it has a cost.
            options: more arguments of the constructor.

        Raises:
            ValueError: the budget cannot be met.
        """
        own = costs.select(tuple(lookups))
        rule = planned_rule(own, budget, policy not in NOISE)
        return cls(module, lookups, policy, rule, **options)

    @torch.inference_mode()
    def __call__(self, images: Tensor, query: Ids) -> StreamAnswers:
        """Answer queries with images (N, 3, H, W).

        Args:
            images: normalised, on the network's device.
            query: its `camids` decide what is hidden; its `pids` are read by `oracle` only.
        """
        state: State = (self._steps.module.cropped(images),)

        def advance(s: int, remaining: Indices, kept: Indices) -> Tensor:
            nonlocal state
            if len(kept) < len(state[0]):
                rows = torch.from_numpy(kept).to(images.device)
                state = tuple(t[rows] for t in state)
            state, embeddings = self._steps.advance(self.exits[s], state)
            return embeddings

        return self._answer(advance, query)

    def replay(self, embeddings: Mapping[str, Tensor], query: Ids) -> StreamAnswers:
        """Answer queries from stored embeddings (N, D) of every exit; the network does not run."""
        return self._answer(
            lambda s, remaining, kept: embeddings[self.exits[s]][torch.from_numpy(remaining)],
            query,
        )

    @torch.inference_mode()
    def merged(self, batches: Iterable[tuple[Tensor, Ids]], full: int) -> StreamAnswers:
        """Answer all queries of several batches of images and ids, in order.

        Queries that remain after an exit are merged across batches and continue `full` at a time,
        since small batches use a device badly. An answer may wait for later batches, at most until
        the last one. Decisions are the same as with one batch at a time.

        Args:
            batches: as for a call.
            full: queries per batch of a stage; the last batch may be smaller.
        """
        waiting: list[_Part | None] = [None] * len(self.exits)
        exited: list[tuple[int, _Part, Tensor, Indices]] = []
        count = 0

        def step(s: int) -> None:
            part, waiting[s] = _split(waiting[s], full)
            state, embeddings = self._steps.advance(self.exits[s], part.state)
            part.state = ()
            out: Mask = np.ones(len(part), dtype=bool)
            nearest: Indices | None = None
            if s < len(self.exits) - 1:
                confidence, nearest = self._confidence(s, embeddings, part.query, part.noise[:, s])
                out = self.rule.exits_here(s, confidence, part.within[:, s])
            here, kept = np.flatnonzero(out), np.flatnonzero(~out)
            if len(here):
                rows, gone = embeddings[torch.from_numpy(here)], part.take(here)
                found = self._found(s, rows, gone.query) if nearest is None else nearest[here]
                exited.append((s, gone, rows, found))
            if len(kept):
                part.state = state
                later = part if len(kept) == len(part) else part.take(kept)
                waiting[s + 1] = _joined(waiting[s + 1], later)

        for images, query in batches:
            noise, within = self._draws.take(len(query))
            numbers = np.arange(count, count + len(query))
            images = self._steps.module.cropped(images)
            waiting[0] = _joined(waiting[0], _Part((images,), query, numbers, noise, within))
            count += len(query)
            while (s := _last_with(waiting, full)) is not None:
                step(s)
        for s in range(len(self.exits)):
            while waiting[s] is not None:
                step(s)
        exits, nearest = np.zeros((2, count), dtype=np.intp)
        rows: list[Tensor] = [torch.empty(0)] * count
        for s, part, embeddings, found in exited:
            exits[part.numbers], nearest[part.numbers] = s, found
            for i, row in zip(part.numbers.tolist(), embeddings.unbind(), strict=True):
                rows[i] = row
        return StreamAnswers(exits, rows, nearest)

    def _answer(self, advance: Advance, query: Ids) -> StreamAnswers:
        noise, within = self._draws.take(len(query))  # (N, S) each
        exits, nearest = np.zeros((2, len(query)), dtype=np.intp)
        rows: list[Tensor] = [torch.empty(0)] * len(query)
        searched = False

        def exits_here(s: int, remaining: Indices, embeddings: Tensor) -> Mask:
            nonlocal searched
            some = _taken(query, remaining)
            confidence, found = self._confidence(s, embeddings, some, noise[remaining, s])
            if found is not None:
                searched = True
                nearest[remaining] = found  # kept by those that exit here
            return self.rule.exits_here(s, confidence, within[remaining, s])

        last = len(self.exits) - 1
        for exited in route(len(query), len(self.exits), advance, exits_here):
            exits[exited.queries] = exited.exit
            for i, row in zip(exited.queries.tolist(), exited.rows.unbind(), strict=True):
                rows[i] = row
            if exited.exit == last or not searched:
                some = _taken(query, exited.queries)
                nearest[exited.queries] = self._found(exited.exit, exited.rows, some)
        return StreamAnswers(exits, rows, nearest)

    def _confidence(
        self, s: int, embeddings: Tensor, query: Ids, noise: Floats
    ) -> tuple[Floats, Indices | None]:
        """(n,) confidence at an exit; and the nearest rows, if that search gives the answer."""
        if self.policy in NOISE:
            return noise, None
        exit = self.exits[s]
        features, found = self.lookups[exit].features(embeddings, query, NEEDS[self.policy])
        confidence = confidence_of(self.policy, features, self.models.get(exit))
        return confidence, found if self.whole is self.lookups else None

    def _found(self, s: int, rows: Tensor, query: Ids) -> Indices:
        """(n,) nearest gallery rows of the queries that take an exit."""
        return self.whole[self.exits[s]].features(rows, query, ("nearest",))[1]


def _check_galleries(module: ReidModule, lookups: Mapping[str, Lookup]) -> None:
    several, shared = len({id(lookup) for lookup in lookups.values()}), module.shared_exit
    if shared is not None and several > 1:
        raise ValueError(
            f"the network's queries are compared with the gallery's embeddings of {shared!r} at "
            f"every exit, and {several} galleries were given: give all exits the same Lookup"
        )
    if shared is None and several < len(lookups):
        raise ValueError(
            "queries are compared with the gallery's embeddings of their own exit, and several "
            "exits were given the same Lookup: give each its own, or train the network with "
            "model.shared_space=true"
        )


@dataclass
class _Part:
    """n queries that wait for a stage: state, ids, indices (n,) and random numbers (n, S)."""

    state: State
    query: Ids
    numbers: Indices
    noise: Floats
    within: Floats

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Indices | slice) -> _Part:
        # not index_select: it loses the channels_last layout
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return _Part(
            tuple(t[index] for t in self.state),
            _taken(self.query, np.arange(len(self))[rows]),
            self.numbers[rows],
            self.noise[rows],
            self.within[rows],
        )


def _joined(one: _Part | None, other: _Part) -> _Part:
    if one is None:
        return other
    return _Part(
        tuple(torch.cat(pair) for pair in zip(one.state, other.state, strict=True)),
        Ids.concatenate(one.query, other.query),
        np.concatenate([one.numbers, other.numbers]),
        np.concatenate([one.noise, other.noise]),
        np.concatenate([one.within, other.within]),
    )


def _split(part: _Part | None, full: int) -> tuple[_Part, _Part | None]:
    assert part is not None
    if len(part) <= full:
        return part, None
    return part.take(slice(full)), part.take(slice(full, None))


def _last_with(waiting: Sequence[_Part | None], full: int) -> int | None:
    """The last stage with a full batch waiting, so that few states are held."""
    ready = [s for s, part in enumerate(waiting) if part is not None and len(part) >= full]
    return ready[-1] if ready else None


def _taken(query: Ids, rows: Indices) -> Ids:
    return query if len(rows) == len(query) else query.take(torch.from_numpy(rows))
