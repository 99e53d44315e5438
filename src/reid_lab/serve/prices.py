"""Expected time from an exit to the next one: profiled at the start, then corrected.

Other programs may slow the network down later. A step's price is then the median of its last
`RECENT` times. Nothing would be timed any more at a step whose price has risen above all deadlines,
so one of `TRIED` queries that only the risen price would end goes on, and the price can fall again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from reid_lab.runtime.model import Model

PROFILE_PASSES = 5  # timed passes of a profile, whose median is used
SINGLE_ROUNDS = 5  # rounds of passes for a single image; the smallest median is used
RECENT_TIMES = 9  # latest times of a step, whose median is the expected time
RETRY_EVERY_QUERIES = 16  # queries that a risen time ends before one goes on: it may have fallen
MIN_STEP_MS = 1e-3  # least time of a step


@dataclass(frozen=True)
class Costs:
    """Cumulative cost of an image at each of S exits: Mul-Adds and milliseconds.

    Milliseconds include matching: `ms` for an image in a batch of `batch`, `alone` for a single
    one.

    Attributes:
        search: (S,) milliseconds of an image of `ms` that are the search which decides at an exit.
        search_alone: the same of `alone`.
    """

    exits: tuple[str, ...]
    mul_adds: np.ndarray
    ms: np.ndarray
    alone: np.ndarray
    batch: int
    search: np.ndarray
    search_alone: np.ndarray

    def total(self, images: int) -> np.ndarray:
        """(S,) milliseconds for this many images together, linear in their number."""
        total: np.ndarray = np.maximum.accumulate(self._linear(self.alone, self.ms, images))
        return total

    def streamed(self, probabilities: np.ndarray) -> float:
        """Expected milliseconds of an image in a full batch that exits early.

        Unlike in `ms`, images go on in smaller batches, and only an exit that some leave and others
        do not is searched. The search for the answer, the same at all exits, is not included.

        Args:
            probabilities: (S,) of taking an exit that is reached, see `exit_probabilities`.
        """
        steps = np.diff(self.ms - self.search.cumsum(), prepend=0.0)
        alone = np.diff(self.alone - self.search_alone.cumsum(), prepend=0.0)
        spent, images = 0.0, float(self.batch)
        for s, leaving in enumerate(probabilities.tolist()):
            spent += self._linear(alone, steps, images)[s]
            if 0 < leaving < 1:
                spent += self._linear(self.search_alone, self.search, images)[s]
            images *= 1 - leaving
        return float(spent / self.batch)

    def _linear(self, alone: np.ndarray, full: np.ndarray, images: float) -> np.ndarray:
        """Milliseconds of some images, between one image and a batch of which each takes `full`."""
        if images < 1:  # the mean of no image and one
            return alone * images
        share = (images - 1) / max(self.batch - 1, 1)
        found: np.ndarray = alone + (full * self.batch - alone) * share
        return found

    def step(self, exit: int, images: int) -> float:
        """Milliseconds for this many images together from an exit to the next one."""
        total = self.total(images)
        return float(total[exit + 1] - total[exit])


def profile(
    model: Model,
    exits: Sequence[str],
    batch: int,
    match: Callable[[str, np.ndarray], object],
) -> Costs:
    """Time each exit on this machine, of one image and of a full batch.

    A few passes of one image fit into one time slice of the operating system. If another program
    gets the next slice, a median of them is some milliseconds too large, so the smallest of several
    medians is taken.
    """
    rounds = [model.measure_exits(1, PROFILE_PASSES, match, exits) for _ in range(SINGLE_ROUNDS)]
    network = np.min([np.diff(one.network, prepend=0.0) for one in rounds], axis=0).cumsum()
    search = np.min([one.matching for one in rounds], axis=0)
    full = model.measure_exits(batch, PROFILE_PASSES, match, exits)
    mul_adds = [model.manifest.exit(name).mul_adds for name in exits]
    return Costs(
        exits=tuple(exits),
        mul_adds=np.array(mul_adds, np.float64),
        ms=np.maximum.accumulate(full.totals(decides=True)),
        alone=np.maximum.accumulate(network + search.cumsum()),
        batch=batch,
        search=full.matching,
        search_alone=search,
    )


class StepPrices:
    """The expected time of each step: the profile, times the median ratio of recent times to it."""

    def __init__(self, costs: Costs) -> None:
        steps = range(len(costs.exits) - 1)
        self._costs = costs
        self._ratios = [deque([1.0], RECENT_TIMES) for _ in steps]
        self._ended = [0 for _ in steps]

    def took(self, exit: int, images: int, ms: float) -> None:
        """Record the time that this many images took from an exit to the next one."""
        self._ratios[exit].append(ms / self._profiled(exit, images))

    def too_late(self, exit: int, left_ms: np.ndarray) -> np.ndarray:
        """(n,) whether each image would miss its deadline at the next exit.

        Args:
            left_ms: (n,) milliseconds until the deadlines.
        """
        profiled = self._profiled(exit, len(left_ms))
        late: np.ndarray = left_ms < profiled * median(self._ratios[exit])
        risen = np.flatnonzero(late & (left_ms >= profiled))
        self._ended[exit] += len(risen)
        if self._ended[exit] >= RETRY_EVERY_QUERIES:
            self._ended[exit] = 0
            late[risen] = False
        return late

    def _profiled(self, exit: int, images: int) -> float:
        return max(self._costs.step(exit, images), MIN_STEP_MS)
