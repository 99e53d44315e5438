"""The state of PLA's search: trials, their objectives, and the settings chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from reid_lab.results.rows.search import TrialRow
from reid_lab.search.schedule import Position, Schedule
from reid_lab.search.setting import Prediction, Ranges, Setting

UNKNOWN = Prediction(math.nan, math.nan, math.nan)


class Search:
    """Algorithm 1 without the network: settings, losses and trials.

    The paper does not say whether later rounds explore all of W again. Here they do, because the
    network has changed, and the process is fitted to the objectives of that round only. Where the
    schedule does not explore, each round exploits a setting drawn at random.

    Args:
        schedule: rounds and lengths of the phases.
        ranges: ranges of the settings.
        drop: expected relative drop of the loss, ED of equation 9.
        candidates: settings drawn in each round; the one with the largest expected improvement is
            exploited.
        seed: random seed of all settings.
    """

    def __init__(
        self, schedule: Schedule, ranges: Ranges, drop: float, candidates: int, seed: int = 0
    ) -> None:
        self.schedule, self.ranges, self.drop = schedule, ranges, drop
        self.candidates, self.seed = candidates, seed
        drawn = schedule.settings if schedule.exploring else schedule.rounds
        self.settings = ranges.draw(drawn, np.random.default_rng([seed, 0]))  # W
        self.expected = [UNKNOWN] * drawn  # predictions for W by the last process
        self.trials: list[TrialRow] = []
        self.losses: list[float] = []  # mean losses of this phase's epochs
        self._sum = 0.0  # of the losses of this epoch

    def setting(self, position: Position) -> Setting:
        """Return the setting of a phase; exploitations use the newest of W, or their round's."""
        return self.settings[position.slot if self.schedule.exploring else position.round]

    def add(self, loss: float) -> None:
        """Add the loss of a batch."""
        self._sum += loss

    @property
    def mean(self) -> float:
        """Mean loss of the current epoch, once it is complete."""
        return self._sum / self.schedule.epoch

    def end_epoch(self, mean: float) -> bool:
        """Add the mean loss of an epoch; return whether it is the lowest of the phase."""
        lowest = not self.losses or mean < min(self.losses)
        self.losses.append(mean)
        self._sum = 0.0
        return lowest

    def end_phase(self, position: Position) -> None:
        """Record the result of a phase; after the last exploration, choose what to exploit."""
        if not self.schedule.exploring:
            self._record("exploit", position.round, position.round)
        elif not position.exploiting:
            self._record("explore", position.round, position.slot)
        losses = self.losses[: self.schedule.explore]
        objective = (
            objective_of(losses, self.drop) if len(losses) == self.schedule.explore else math.nan
        )
        self.trials[-1] = replace(self.trials[-1], objective=objective, loss=_lowest(self.losses))
        self.losses = []
        if position.slot + 1 == self.schedule.explorations(position.round):
            self._choose(position.round)

    def _choose(self, number: int) -> None:
        from reid_lab.search.bayes import Surrogate  # BoTorch takes seconds to import

        explored = self.trials[-len(self.settings) :]
        process = Surrogate(self.ranges, self.settings, [trial.objective for trial in explored])
        drawn = self.ranges.draw(self.candidates, np.random.default_rng([self.seed, 1, number]))
        self.settings.append(process.best(drawn))
        self.expected = process.predict(self.settings)
        self._record("exploit", number, len(self.settings) - 1)

    def _record(self, phase: str, number: int, slot: int) -> None:
        setting, expected = self.settings[slot], self.expected[slot]
        self.trials.append(TrialRow(number + 1, phase, *setting, math.nan, *expected, math.nan))

    def state_dict(self) -> dict[str, Any]:
        """Return the state in plain types."""
        return {
            "settings": [list(setting) for setting in self.settings],
            "expected": [list(prediction) for prediction in self.expected],
            "trials": [asdict(trial) for trial in self.trials],
            "losses": list(self.losses),
            "sum": self._sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of `state_dict`."""
        self.settings = [Setting(*setting) for setting in state["settings"]]
        self.expected = [Prediction(*prediction) for prediction in state["expected"]]
        self.trials = [TrialRow(**trial) for trial in state["trials"]]
        self.losses, self._sum = list(state["losses"]), state["sum"]


def _lowest(losses: Sequence[float]) -> float:
    """Return the lowest loss; nan if the phase diverged."""
    return min(losses) if all(map(math.isfinite, losses)) else math.nan


def objective_of(losses: Sequence[float], drop: float) -> float:
    """Return the deviation of the loss's relative drop from `drop`. PLA, equation 9 as printed.

    The drop is from the mean of the first half of `losses` (one per epoch) to the mean of the
    second half, which has one more if their number is odd. A loss of 0 drops by 0.
    """
    half = len(losses) // 2
    first, second = float(np.mean(losses[:half])), float(np.mean(losses[half:]))
    return abs(((first - second) / first if first else 0.0) - drop)
