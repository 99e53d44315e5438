"""What a step between exits costs: by a network and a clock of fixed durations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.cost.currency import ExitCosts
from reid_lab.serve.people import NewImage, People
from reid_lab.serve.prices import RECENT_TIMES, RETRY_EVERY_QUERIES, SINGLE_ROUNDS, Costs
from reid_lab.serve.scheduler import Scheduler, Target
from tests.serve.network import Colours, plain

BATCH = 8


class Clocked(Colours):
    """A stage takes what it is told, on a clock of its own that nothing else moves.

    Args:
        alone: milliseconds of a stage with one image; as many for every further one.
        profiles: what is measured for a stage of one image, call by call; the last one stays.
        full: for a stage, of each image of a batch.
    """

    def __init__(self, alone: float, profiles: Sequence[tuple[float, float]], full: float) -> None:
        super().__init__()
        self.alone, self.profiles, self.full = alone, [*profiles], full
        self.now = 0.0

    def _embedded(self, exit: str, pixels: np.ndarray) -> np.ndarray:
        self.now += self.alone * len(pixels) / 1_000
        return super()._embedded(exit, pixels)

    def measure_exits(
        self,
        batch: int,
        passes: int,
        match: Callable[[str, np.ndarray], object],
        exits: Sequence[str],
    ) -> ExitCosts:
        stages = [self.full] * 2
        if batch == 1:
            stages = [*(self.profiles.pop(0) if len(self.profiles) > 1 else self.profiles[0])]
        return ExitCosts("latency", tuple(exits), np.cumsum(stages), np.zeros(2))


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    network = Colours()
    opened = People.open(tmp_path / "p.sqlite", network.manifest)
    for number in range(4):
        opened.add(str(number), [NewImage()], network.embed(plain(60 * number, 9, 9)[None]))
    yield opened
    opened.close()


def started(network: Clocked, people: People) -> Scheduler:
    clock = lambda: network.now  # noqa: E731
    return Scheduler(network, people, Target(), BATCH, clock=clock)  # type: ignore[arg-type]


def exits(scheduler: Scheduler, ms: float, count: int = 1) -> Counter[str]:
    """Exits of queries that come one after the other."""
    pixels = plain(70, 9, 9)
    return Counter(scheduler.submit([pixels], ms)[0].result(10).exit for _ in range(count))


def test_one_disturbed_measurement_is_no_price(people: People) -> None:
    """The second stage is measured as 21 ms, all rounds but one: the other programs' time."""
    wrong = [(1.0, 21.0)] * (SINGLE_ROUNDS - 1)
    network = Clocked(1.0, [*wrong, (1.0, 1.0)], full=1.0)
    scheduler = started(network, people)
    assert scheduler.costs.alone.tolist() == [1.0, 2.0]
    assert exits(scheduler, 5.0, 20) == {"late": 20}
    scheduler.close()


def test_a_lone_query_has_the_price_of_a_lone_query(people: People) -> None:
    """An image takes 10 ms a stage in a full batch, 1 ms alone: 5 ms are enough for both."""
    network = Clocked(1.0, [(1.0, 1.0)], full=10.0)
    scheduler = started(network, people)
    assert exits(scheduler, 5.0, 20) == {"late": 20}
    assert exits(scheduler, 2.5, 20) == {"late": 20}  # 1 ms of 1.5 ms is left
    assert exits(scheduler, 1.5, 20) == {"early": 20}
    scheduler.close()
    assert scheduler.load.late == 0


@pytest.mark.parametrize("ms", [5.0, 10.0, 15.0, 20.0])
def test_a_price_rises_and_falls_with_what_a_step_takes(people: People, ms: float) -> None:
    """The network gets 25 times slower than it was measured at the start, then as before."""
    network = Clocked(1.0, [(1.0, 1.0)], full=1.0)
    scheduler = started(network, people)
    assert exits(scheduler, ms, 5) == {"late": 5}
    network.alone = 25.0
    exits(scheduler, 1_000, RECENT_TIMES)
    before = scheduler.load.late
    slow = exits(scheduler, ms + 25, RETRY_EVERY_QUERIES - 1)
    assert slow == {"early": RETRY_EVERY_QUERIES - 1} and scheduler.load.late == before
    assert exits(scheduler, 60.0, 5) == {"late": 5}  # there is time
    network.alone = 1.0
    assert exits(scheduler, ms, RECENT_TIMES * RETRY_EVERY_QUERIES)["late"] > 0
    assert exits(scheduler, ms, 5) == {"late": 5}
    scheduler.close()


def costs_of(ms: Sequence[float], alone: Sequence[float], batch: int, search: float = 0.0) -> Costs:
    names, searches = tuple("abc"[: len(ms)]), np.full(len(ms), search)
    full, single = np.array(ms, np.float64), np.array(alone, np.float64)
    return Costs(names, full, full, single, batch, searches, 2 * searches)


def test_time_is_linear_in_the_batch() -> None:
    costs = costs_of([1, 2], [4, 7], 5)
    assert costs.total(1).tolist() == [4, 7] and costs.total(5).tolist() == [5, 10]
    assert costs.step(0, 1) == pytest.approx(3.0)
    assert costs.step(0, 5) == pytest.approx(5.0)
    assert costs.step(0, 3) == pytest.approx(4.0)


def test_a_stream_pays_for_smaller_batches_and_for_searches() -> None:
    # in ms: stages take 1, 1, 2 of an image of five, 2, 2, 4 of one; a search 0.5, and 1 of one
    costs = costs_of([1.5, 3.0, 5.5], [3.0, 6.0, 11.0], 5, search=0.5)
    assert costs.streamed(np.array([0, 0, 1])) == pytest.approx(4.0)  # nothing is searched
    assert costs.streamed(np.array([1, 0, 1])) == pytest.approx(1.0)
    # 5 images, 3 of which go on: 5 + 2.5, then 2 + (5 - 2) * 2 / 4, 4 + (10 - 4) * 2 / 4
    assert costs.streamed(np.array([0.4, 0, 1])) == pytest.approx((7.5 + 3.5 + 7.0) / 5)
    # half an image goes on: half of what a single one takes
    assert costs.streamed(np.array([0.9, 0, 1])) == pytest.approx((7.5 + 1.0 + 2.0) / 5)


def test_an_early_exit_can_cost_more_than_it_saves() -> None:
    cheap, dear = (costs_of([1.5, 2.0 + s], [1.5, 2.0 + s], 8, search=s) for s in (0.1, 0.6))
    half, last = np.array([0.5, 1.0]), np.array([0.0, 1.0])
    assert cheap.streamed(half) < cheap.streamed(last)
    assert dear.streamed(half) > dear.streamed(last)


def test_the_profile_of_searches(people: People) -> None:
    class Searched(Clocked):
        def measure_exits(self, batch: int, *more: Any) -> ExitCosts:
            measured = super().measure_exits(batch, *more)
            return replace(measured, matching=np.array([0.25, 0.5]) * (2 if batch == 1 else 1))

    scheduler = started(Searched(1.0, [(1.0, 1.0)], full=1.0), people)
    scheduler.close()
    assert scheduler.costs.ms.tolist() == [1.25, 2.75]
    assert scheduler.costs.alone.tolist() == [1.5, 3.5]
    assert scheduler.costs.search.tolist() == [0.25, 0.5]
    assert scheduler.costs.search_alone.tolist() == [0.5, 1.0]
    assert scheduler.whole_ms == 2.0 and scheduler.planned_ms is None
