"""Deadlines that no exit can keep, on clocks that only work moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reid_lab.serve.people import People
from reid_lab.serve.scheduler import AVERAGED_BATCHES, Embedded, Scheduler, Target
from reid_lab.serve.traffic import RECENT_ANSWERS, Traffic
from tests.serve.network import plain
from tests.serve.simulated import BATCH, IMAGES, STAGE, Simulated, twenty_people
from tests.serve.test_prices import Clocked

PIXELS = plain(70, 9, 9)


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    opened = twenty_people(tmp_path / "p.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def network() -> Clocked:
    """Each of the two stages takes 10 ms of an image, alone or not."""
    return Clocked(10.0, [(10.0, 10.0)], full=10.0)


@pytest.fixture
def scheduler(network: Clocked, people: People) -> Iterator[Scheduler]:
    made = started(network, people, Target(ms=50.0))
    yield made
    made.close()


def started(network: Clocked, people: People, target: Target) -> Scheduler:
    clock = lambda: network.now  # noqa: E731
    return Scheduler(network, people, target, BATCH, clock=clock)  # type: ignore[arg-type]


def ask(scheduler: Scheduler, waited_ms: float = 0.0, count: int = 1, **more: object) -> list[str]:
    """The exits of queries that have waited so long before they came to the scheduler."""
    arrived = scheduler.clock() - waited_ms / 1_000
    futures = scheduler.submit([PIXELS] * count, arrived=arrived, **more)  # type: ignore[arg-type]
    return [future.result(10).exit for future in futures]


@pytest.mark.parametrize(
    ("waited", "exit"), [(0, "late"), (25, "late"), (35, "early"), (39, "early"), (41, "late")]
)
def test_lateness_is_not_bought_with_accuracy(
    scheduler: Scheduler, network: Clocked, waited: float, exit: str
) -> None:
    """50 ms: an exit that keeps them is taken; if none can, the last one."""
    for track in (False, True, False):
        network.now += 1.0
        assert ask(scheduler, waited, track=track) == [exit]


def test_what_no_service_could_keep_asks_for_the_first_exit(scheduler: Scheduler) -> None:
    assert ask(scheduler, ms=9.0) == ask(scheduler, ms=9.0, track=True) == ["early"]
    assert scheduler.load.late == 2


def test_the_time_of_sending_is_not_for_exits(scheduler: Scheduler, network: Clocked) -> None:
    for sending, exit in [(5, "late"), (35, "early"), (45, "late")]:
        done = Embedded({}, "late", 0.0, 0.0, 0.0, done=network.now)
        network.now += sending / 1_000
        for _ in range(RECENT_ANSWERS):
            scheduler.sent([done])
        network.now += 1.0
        assert ask(scheduler) == [exit], sending


def test_while_images_wait_behind_a_batch_the_first_exit_is_taken(
    scheduler: Scheduler, network: Clocked
) -> None:
    ask(scheduler)
    network.now += 10.0
    assert ask(scheduler, waited_ms=1_000, count=BATCH + 1) == ["early"] * (BATCH + 1)


def test_late_queries_do_not_take_the_first_and_the_last_exit_in_turns(
    scheduler: Scheduler, network: Clocked
) -> None:
    """Behind every other batch images wait: the budget of all is in the middle."""
    budgets = []
    for _ in range(8 * AVERAGED_BATCHES):
        network.now += 1.0
        ask(scheduler, waited_ms=1_000, count=BATCH + 1)
        budgets.append(scheduler.load.budget_ms)
    assert budgets[-AVERAGED_BATCHES:] == pytest.approx(
        [15.0] * AVERAGED_BATCHES, abs=0.5
    )  # of 10 to 20 ms


@pytest.mark.parametrize(("rest_ms", "exit"), [(6.0, "early"), (60.0, "late")])
def test_the_network_takes_half_of_the_time_at_most(
    scheduler: Scheduler, network: Clocked, rest_ms: float, exit: str
) -> None:
    """Queries that are late anyway; the last exit takes 20 ms, and the network rests between."""
    found = []
    for number in range(150):
        (future,) = scheduler.submit([IMAGES[number % len(IMAGES)]], arrived=network.now - 1)
        found.append(future.result(10).exit)
        network.now += rest_ms / 1_000
    # a query may exit later, once, which corrects the shares of the first ones
    assert found[-50:].count(exit) >= 49


def test_a_mean_is_kept_by_those_that_are_late_anyway(network: Clocked, people: People) -> None:
    scheduler = started(network, people, Target(mul_adds=4_000))
    assert ask(scheduler, waited_ms=45, ms=50) == ["late"]
    assert ask(scheduler, waited_ms=35, ms=50) == ["early"]
    scheduler.close()


def test_traffic() -> None:
    traffic = Traffic()
    traffic.arrived(1.0, 3)
    assert traffic.between_ms(1.0) == np.inf and traffic.sending_ms == 0
    traffic.arrived(1.1, 2)
    traffic.arrived(1.2, 3)
    assert traffic.between_ms(1.2) == pytest.approx(40)
    assert traffic.between_ms(2.0) == pytest.approx(200)
    for ms in (1.0, 9.0, 2.0):
        traffic.sent(ms)
    assert traffic.sending_ms == 2


@pytest.mark.parametrize(("around", "exit"), [(0.020, "late"), (0.001, "early")])
def test_under_twice_the_load(people: People, around: float, exit: str) -> None:
    """Where the network is not what queries wait for, they keep the last exit; where it is, the
    first one, and as many are answered as that can take."""
    network = Simulated(around)
    stages = 2 if exit == "late" else 1
    capacity = 1 / (stages * STAGE + around)
    network.run(people, 2 * capacity, 20, Target(ms=50.0), 100.0)
    settled = network.between(5, 20)
    exits = [answer.exit for answer in settled]
    assert exits.count(exit) > 0.9 * len(exits)
    assert len(settled) / 15 >= 0.9 * capacity
    assert max(answer.wait for answer in settled) <= 0.1 + 2 * BATCH / capacity
