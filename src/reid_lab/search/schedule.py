"""When PLA does what: every batch's position in algorithm 1 is a function of its number alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """Where a batch stands.

    `slot` counts the phases of a round: those before the last explore the setting of that
    number, the last exploits. `start` is the phase's first batch, `step` counts from there.
    """

    round: int
    slot: int
    exploiting: bool
    start: int
    step: int
    length: int  # batches of the phase

    @property
    def first(self) -> bool:
        """The first batch of its phase."""
        return self.step == 0

    @property
    def last(self) -> bool:
        """The last batch of its phase."""
        return self.step + 1 == self.length


@dataclass(frozen=True)
class Schedule:
    """`rounds` of exploring every setting, then exploiting the one chosen. Algorithm 1.

    The first round explores `settings`, each later one also those chosen before it: W grows by
    one a round. All phases of a round see the same data, those that follow what the rounds
    before exploited.

    Args:
        epoch: batches of an epoch.
        explore, exploit: epochs of a phase.
    """

    rounds: int
    settings: int
    explore: int
    exploit: int
    epoch: int

    def explorations(self, round: int) -> int:
        """Settings to explore in a round, counted from 0."""
        return self.settings + round

    def batches(self, round: int) -> int:
        """Batches of a whole round."""
        return (self.explorations(round) * self.explore + self.exploit) * self.epoch

    @property
    def total(self) -> int:
        """Batches of the whole training."""
        return sum(map(self.batches, range(self.rounds)))

    def at(self, t: int) -> Position:
        """The position of batch `t`; past the end it stays in the last exploitation."""
        start = 0
        for number in range(self.rounds - 1):
            if t < start + self.batches(number):
                break
            start += self.batches(number)
        else:
            number = self.rounds - 1
        explorations, length = self.explorations(number), self.explore * self.epoch
        slot = min((t - start) // length, explorations)
        start += slot * length
        exploiting = slot == explorations
        length = self.exploit * self.epoch if exploiting else length
        return Position(number, slot, exploiting, start, t - start, length)

    def data(self, t: int) -> int:
        """The batch of the sampler that batch `t` of the training takes."""
        position = self.at(t)
        return position.round * self.exploit * self.epoch + position.step
