"""The state of PLA's search: what was tried, what came out, what is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from reid_lab.results.rows import Trial
from reid_lab.search.schedule import Position, Schedule
from reid_lab.search.setting import Prediction, Ranges, Setting

UNKNOWN = Prediction(math.nan, math.nan, math.nan)


class Search:
    """Algorithm 1 but for the network: settings, losses and trials, one after the other.

    Where the paper is silent: a later round explores all of W again, as the network has
    changed since, and the process is fitted to that round's objectives alone.

    Args:
        drop: expected relative drop of the loss, ED of equation 9.
        candidates: settings drawn in each round, of which the one of the largest expected
            improvement is exploited.
    """

    def __init__(
        self, schedule: Schedule, ranges: Ranges, drop: float, candidates: int, seed: int = 0
    ) -> None:
        self.schedule, self.ranges, self.drop = schedule, ranges, drop
        self.candidates, self.seed = candidates, seed
        self.settings = ranges.draw(schedule.settings, np.random.default_rng([seed, 0]))  # W
        self.expected = [UNKNOWN] * schedule.settings  # of each of W, by the last process
        self.trials: list[Trial] = []
        self.losses: list[float] = []  # the means of this phase's epochs
        self._sum = 0.0  # of this epoch's losses

    def setting(self, position: Position) -> Setting:
        """What a phase trains with; an exploitation with the newest of W."""
        return self.settings[position.slot]

    def add(self, loss: float) -> None:
        """Take a batch's loss."""
        self._sum += loss

    @property
    def mean(self) -> float:
        """Mean loss of the epoch that just ended."""
        return self._sum / self.schedule.epoch

    def end_epoch(self, mean: float) -> bool:
        """Take an epoch's mean loss; whether it is the phase's lowest."""
        lowest = not self.losses or mean < min(self.losses)
        self.losses.append(mean)
        self._sum = 0.0
        return lowest

    def end_phase(self, position: Position) -> None:
        """Note what came out; after the last exploration of a round, choose what to exploit."""
        if not position.exploiting:
            self._note(position.round, position.slot)
        tried = self.losses[: self.schedule.explore]
        objective = (
            objective_of(tried, self.drop) if len(tried) == self.schedule.explore else math.nan
        )
        self.trials[-1] = replace(self.trials[-1], objective=objective, loss=_lowest(self.losses))
        self.losses = []
        if position.slot + 1 == self.schedule.explorations(position.round):
            self._choose(position.round)

    def _choose(self, round: int) -> None:
        from reid_lab.search.bayes import Surrogate  # here: BoTorch takes seconds to import

        explored = self.trials[-len(self.settings) :]
        process = Surrogate(self.ranges, self.settings, [trial.objective for trial in explored])
        drawn = self.ranges.draw(self.candidates, np.random.default_rng([self.seed, 1, round]))
        self.settings.append(process.best(drawn))
        self.expected = process.predict(self.settings)
        self._note(round, len(self.settings) - 1)

    def _note(self, round: int, slot: int) -> None:
        phase = "explore" if slot < self.schedule.explorations(round) else "exploit"
        setting, expected = self.settings[slot], self.expected[slot]
        self.trials.append(Trial(round + 1, phase, *setting, math.nan, *expected, math.nan))

    def state_dict(self) -> dict[str, Any]:
        """Everything in plain types."""
        return {
            "settings": [list(setting) for setting in self.settings],
            "expected": [list(prediction) for prediction in self.expected],
            "trials": [asdict(trial) for trial in self.trials],
            "losses": list(self.losses),
            "sum": self._sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.settings = [Setting(*setting) for setting in state["settings"]]
        self.expected = [Prediction(*prediction) for prediction in state["expected"]]
        self.trials = [Trial(**trial) for trial in state["trials"]]
        self.losses, self._sum = list(state["losses"]), state["sum"]


def _lowest(losses: Sequence[float]) -> float:
    """nan where the phase diverged."""
    return min(losses) if all(map(math.isfinite, losses)) else math.nan


def objective_of(losses: Sequence[float], drop: float) -> float:
    """How far the loss's relative drop is from `drop`. PLA, equation 9 as printed.

    From the mean of the first half of `losses`, an epoch each, to that of the second, which
    has one more where their number is odd. A loss of zero does not drop.
    """
    half = len(losses) // 2
    first, second = float(np.mean(losses[:half])), float(np.mean(losses[half:]))
    return abs(((first - second) / first if first else 0.0) - drop)
