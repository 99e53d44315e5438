"""Anytime re-identification: the budget may run out at any time. DaRe, section 4.1."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reid_lab.budget.steps import Steps
from reid_lab.cost.currency import ExitCosts
from reid_lab.cost.latency import wait_for
from reid_lab.cost.mul_adds import count_exits
from reid_lab.errors import UserError
from reid_lab.output.arguments import check_limit, check_network, check_type, numbers, texts
from reid_lab.retrieval.metrics import Ranking

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule, State

IMAGES = "normalised images, a float tensor (N, 3, H, W)"
KEPT_DURATIONS = 32  # latest durations of a step, whose 90th percentile is used


def exit_at(budget: float, costs: Mapping[str, float]) -> str | None:
    """The last exit within `budget`; None if the first exit costs more."""
    reached = [name for name, cost in costs.items() if cost <= budget]
    return reached[-1] if reached else None


def anytime_curve(
    rankings: Mapping[str, Ranking],
    mul_adds: Mapping[str, int],
    budgets: Sequence[float],
    measured: ExitCosts | None = None,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """One row per budget of an image: the exit that it reaches, with its Mul-Adds, rank1 and mAP.

    Args:
        rankings: exit -> ranking.
        mul_adds: exit -> cumulative Mul-Adds, cheapest first.
        budgets: Mul-Adds per image, or in the unit of `measured`.
        measured: costs of the network from a profile; None takes `mul_adds`.
        bounds: exit -> confidence intervals (`Evaluation.intervals`) for its rows.
    """
    check_type("rankings", rankings, Mapping, "a dict of exits and their rankings")
    check_type("mul_adds", mul_adds, Mapping, "a dict of exits, as of count_exits")
    if measured is not None:
        check_type("measured", measured, ExitCosts, "costs of read_costs(profile.csv, ...)")
    if missing := [name for name in mul_adds if name not in rankings]:
        raise UserError(f"rankings has no exit {missing[0]!r}: give one for each exit of mul_adds")
    rows = []
    for budget in numbers("budgets", budgets):
        name = exit_at(budget, measured.by_exit() if measured else mul_adds)
        answer = {"rank1": 0.0, "mAP": 0.0}  # no exit is reached
        if name is not None:
            own = bounds[name] if bounds else {}
            answer = {"rank1": rankings[name].rank1, "mAP": rankings[name].mAP, **own}
        reached = {"exit": name or "", "mul_adds": mul_adds[name] if name else 0}
        cost = measured.currency if measured else "mul_adds"
        rows.append({"budget": budget, "cost": cost, **reached, **answer})
    return rows


@dataclass(frozen=True)
class AnytimeEmbeddings:
    """The embeddings (N, D) of the most recent exit.

    Attributes:
        exit: name of the exit.
        embeddings: (N, D).
        milliseconds: time from the call to these embeddings.
        step_ms: duration of the last step. Except for the first, no step starts after the deadline,
            so that the answer is late by at most this time.
    """

    exit: str
    embeddings: Tensor
    milliseconds: float
    step_ms: float


class AnytimeModel:
    """A trained network that stops when the budget runs out and returns the last embeddings.

    The first exit is always computed. A step is not started if it would end after the
    deadline, judged by the durations of earlier steps.

    Args:
        module: the network.
        exits: names of exits, cheapest first; None takes all.
        measured: costs from a profile (`profile.read_costs`), for budgets in its unit.
    """

    def __init__(
        self,
        module: ReidModule,
        exits: Sequence[str] | None = None,
        measured: ExitCosts | None = None,
    ) -> None:
        check_network("module", module)
        names = texts("exits", exits) if exits is not None else module.exit_names
        if measured is not None:
            check_type("measured", measured, ExitCosts, "costs of read_costs(profile.csv, ...)")
        self._steps = Steps(module, names or module.exit_names)
        self._prices = measured.by_exit() if measured else None
        self._took: dict[tuple[str, torch.Size], deque[float]] = {}
        self._costs: dict[torch.Size, dict[str, int]] = {}

    @torch.inference_mode()
    def embed(
        self,
        images: Tensor,
        deadline_ms: float = math.inf,
        mul_adds: float = math.inf,
        budget: float = math.inf,
    ) -> AnytimeEmbeddings:
        """Images (N, 3, H, W) -> the last embeddings within all given budgets.

        Args:
            images: normalised, on the network's device.
            deadline_ms: wall-clock limit, counted from the call.
            mul_adds: limit on Mul-Adds per image.
            budget: limit per image in the unit of `measured`: milliseconds or joules of the
                profile.

        Raises:
            UserError: other images, a budget that is no number, or one without `measured` costs.
        """
        start = now = time.perf_counter()
        check_type("images", images, Tensor, IMAGES)
        if images.ndim != 4 or not images.is_floating_point():
            shape = f"{tuple(images.shape)} {images.dtype}"
            raise UserError(f"images are {shape}: give {IMAGES}")
        limits = {"deadline_ms": deadline_ms, "mul_adds": mul_adds, "budget": budget}
        for name, limit in limits.items():
            check_limit(name, limit)
        images = self._steps.module.cropped(images)
        costs: Mapping[str, float] = self._mul_adds(images) if math.isfinite(mul_adds) else {}
        prices: Mapping[str, float] = {}
        if math.isfinite(budget):
            if self._prices is None:
                raise UserError("budget= needs AnytimeModel(..., measured=read_costs(...))")
            prices = self._prices
        state: State = (images,)
        answer = None
        for exit in self._steps.exits:
            took = self._took.setdefault((exit, images.shape), deque(maxlen=KEPT_DURATIONS))
            late = now - start + _usual(took) > deadline_ms / 1000
            beyond = costs.get(exit, 0) > mul_adds or prices.get(exit, 0) > budget
            if answer is not None and (late or beyond):
                break
            state, embeddings = self._steps.advance(exit, state)
            wait_for(images.device)
            before, now = now, time.perf_counter()
            took.append(now - before)
            answer = AnytimeEmbeddings(exit, embeddings, 1000 * (now - start), 1000 * took[-1])
        assert answer is not None
        return answer

    def usual_ms(self, images: Tensor) -> dict[str, float]:
        """Expected duration of the step to each exit for such a batch; 0 if it has not run yet."""
        return {
            exit: 1000 * _usual(self._took.get((exit, images.shape), ()))
            for exit in self._steps.exits
        }

    def _mul_adds(self, images: Tensor) -> dict[str, int]:
        size = images.shape[2:]
        if size not in self._costs:
            self._costs[size] = count_exits(self._steps.module, *size)
        return self._costs[size]


def _usual(took: Collection[float]) -> float:
    """90th percentile of durations, in seconds."""
    return sorted(took)[int(0.9 * len(took))] if took else 0.0
