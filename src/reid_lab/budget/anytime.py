"""Anytime re-identification: the budget ends without notice. DaRe, section 4.1."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reid_lab.budget.mul_adds import count_exits
from reid_lab.budget.steps import Steps
from reid_lab.retrieval.metrics import Ranking

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule, State

KEPT = 32  # times of a step that say what it usually takes


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


@dataclass(frozen=True)
class AnytimeEmbeddings:
    """The embeddings (N, D) of the most recent exit.

    Attributes:
        milliseconds: from the call to these embeddings.
        step_ms: of those, what the last step took. No step is begun after the deadline but the
            first, so that no answer is later than this.
    """

    exit: str
    embeddings: Tensor
    milliseconds: float
    step_ms: float


class AnytimeModel:
    """A trained network that stops when the budget ends and gives the most recent embeddings.

    The first exit is always computed, so that there is an answer. A step that would not end
    before the deadline, by what such steps took before, is not begun; one that takes longer
    than ever is late by itself alone.

    Args:
        exits: None takes all of the network's.
    """

    def __init__(self, module: ReidModule, exits: Sequence[str] | None = None) -> None:
        self._steps = Steps(module, exits or module.exit_names)
        self._took: dict[tuple[str, torch.Size], deque[float]] = {}
        self._costs: dict[torch.Size, dict[str, int]] = {}

    @torch.inference_mode()
    def embed(
        self,
        images: Tensor,
        deadline_ms: float = math.inf,
        mul_adds: float = math.inf,
    ) -> AnytimeEmbeddings:
        """Images (N, 3, H, W) -> the last embeddings that the budget reaches.

        Args:
            deadline_ms: counted from the call.
            mul_adds: an image.
        """
        start = now = time.perf_counter()
        costs = self._mul_adds(images) if math.isfinite(mul_adds) else {}
        state: State = (images,)
        answer = None
        for exit in self._steps.exits:
            took = self._took.setdefault((exit, images.shape), deque(maxlen=KEPT))
            late = now - start + _usual(took) > deadline_ms / 1000
            if answer is not None and (late or costs.get(exit, 0) > mul_adds):
                break
            state, embeddings = self._steps.advance(exit, state)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            before, now = now, time.perf_counter()
            took.append(now - before)
            answer = AnytimeEmbeddings(exit, embeddings, 1000 * (now - start), 1000 * took[-1])
        assert answer is not None
        return answer

    def usual_ms(self, images: Tensor) -> dict[str, float]:
        """What the step to each exit takes for such a batch, as far as it was run; else 0."""
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
    """Seconds that nine of ten were done in."""
    return sorted(took)[int(0.9 * len(took))] if took else 0.0
