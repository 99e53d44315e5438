"""The schedule of PLA's algorithm 1: the position of a batch depends on its number only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """The position of a batch in the schedule.

    Attributes:
        round: from 0.
        slot: number of the phase in its round, from 0. The last phase exploits; the others explore
            the setting of this number.
        exploiting: whether the phase exploits.
        start: first batch of the phase.
        step: batches since `start`.
        length: batches of the phase.
    """

    round: int
    slot: int
    exploiting: bool
    start: int
    step: int
    length: int

    @property
    def last(self) -> bool:
        """Whether this is the last batch of the phase."""
        return self.step + 1 == self.length


@dataclass(frozen=True)
class Schedule:
    """Rounds that explore every setting, then exploit the one chosen (algorithm 1).

    The first round explores `settings` settings; later rounds also those chosen before: W grows by
    one per round. All phases of a round start from the same data: the batches that follow those of
    the exploitations so far.

    Args:
        rounds: number of rounds.
        settings: settings explored in the first round.
        explore, exploit: epochs of a phase.
        epoch: batches of an epoch.
        exploring: False: a round is its exploitation alone.
    """

    rounds: int
    settings: int
    explore: int
    exploit: int
    epoch: int
    exploring: bool = True

    def explorations(self, number: int) -> int:
        """Return the number of settings explored in round `number`, counted from 0."""
        return self.settings + number if self.exploring else 0

    def batches(self, number: int) -> int:
        """Return the batches of round `number`."""
        return (self.explorations(number) * self.explore + self.exploit) * self.epoch

    @property
    def total(self) -> int:
        """Batches of the whole training."""
        return sum(map(self.batches, range(self.rounds)))

    def at(self, t: int) -> Position:
        """Return the position of batch `t`; after the end, it is in the last exploitation."""
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
        """Return the number of the sampler's batch that step `t` of the training uses."""
        position = self.at(t)
        return position.round * self.exploit * self.epoch + position.step
