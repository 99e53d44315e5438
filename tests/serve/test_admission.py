"""Admission under load: waits, throughput, recovery and exits, on a clock that only work moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reid_lab.serve.admission import Admission, BusyError
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Target
from tests.serve.simulated import BATCH, STAGE, WAIT_MS, Simulated, twenty_people


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    opened = twenty_people(tmp_path / "p.sqlite")
    yield opened
    opened.close()


AROUND = 0.005  # half of what the network takes, and unknown to it
CAPACITY = 1 / (2 * STAGE + AROUND)  # requests a second, at the last exit
BOUND = WAIT_MS / 1_000 + BATCH / CAPACITY  # and a batch


def test_twice_the_load(people: People) -> None:
    network = Simulated(AROUND)
    admission = network.run(people, 2 * CAPACITY, 30, Target(), WAIT_MS)
    settled = network.between(5, 30)
    assert len(settled) / 25 >= 0.9 * CAPACITY
    assert max(answer.wait for answer in settled) <= BOUND
    assert np.median([answer.wait for answer in settled]) > 0.5 * WAIT_MS / 1_000  # not idle
    assert admission.refused == len(network.refused) > 700
    assert admission.in_flight == 0


@pytest.mark.parametrize("images, load", [(2, 6), (20, 2)])
def test_requests_of_many_images(images: int, load: float, people: People) -> None:
    """They wait no longer than those of one image, however many are refused."""
    network = Simulated(AROUND, images=images)
    admission = network.run(people, load * CAPACITY / images, 20, Target(), WAIT_MS)
    settled = network.between(5, 20)
    assert images * len(settled) / 15 >= 0.8 * CAPACITY  # 20 images fill 500 ms less well
    assert max(answer.wait for answer in settled) <= BOUND
    assert admission.between_ms == pytest.approx(1_000 / CAPACITY, rel=0.4)
    assert admission.refused == len(network.refused) > 50
    assert admission.in_flight == 0


def test_without_admission_the_wait_grows(people: People) -> None:
    network = Simulated(AROUND)
    assert not network.run(people, 2 * CAPACITY, 10, Target(), None).refused
    assert max(answer.wait for answer in network.answers) > 5


def test_half_the_load_is_never_refused(people: People) -> None:
    network = Simulated(AROUND)
    assert not network.run(people, 0.5 * CAPACITY, 10, Target(), WAIT_MS).refused


@pytest.mark.parametrize("load", [0.5, 2.0])
def test_recovery_after_a_stall(load: float, people: People) -> None:
    network = Simulated(AROUND, stall=8)
    admission = network.run(people, load * CAPACITY, 30, Target(), WAIT_MS)
    assert max(answer.wait for answer in network.between(8, 16)) > 5  # who came before
    settled = network.between(20, 30)
    assert max(answer.wait for answer in settled) <= BOUND
    assert len(settled) / 10 >= 0.9 * CAPACITY * min(load, 1)
    assert admission.between_ms == pytest.approx(1_000 / CAPACITY, rel=0.4)
    if load < 1:
        assert max(network.refused) < 16


def test_queries_exit_early_before_any_is_refused(people: People) -> None:
    """The last exit takes 100 a second, the first one 200."""
    between, beyond = Simulated(), Simulated()
    between.run(people, 150, 10, Target(ms=200), WAIT_MS)
    beyond.run(people, 400, 10, Target(ms=200), WAIT_MS)
    assert not between.refused
    exits = [answer.exit for answer in between.answers]
    assert exits.count("early") > 0.3 * len(exits) and "late" in exits
    settled = beyond.between(5, 10)
    assert beyond.refused and len(settled) / 5 >= 0.9 * 200
    assert [answer.exit for answer in settled].count("early") > 0.95 * len(settled)
    assert max(answer.wait for answer in settled) <= WAIT_MS / 1_000 + 0.1


def test_a_batch_in_flight_is_never_refused() -> None:
    """Whatever the estimate; beyond that, (in flight + 1) times the time between answers."""
    now = [0.0]
    slow = Admission(100, free=4, between_ms=60_000, clock=lambda: now[0])
    requests = [slow.enter() for _ in range(4)]
    with pytest.raises(BusyError, match="about 300,000 ms, 100 ms are allowed") as error:
        slow.enter()
    assert error.value.seconds == 240
    for _ in range(300):  # answers each 10 ms teach it
        now[0] += 0.01
        slow.leave(requests.pop())
        requests.append(slow.enter())
    assert slow.between_ms == pytest.approx(10, rel=0.01)
    assert slow.refused == 1 and slow.in_flight == 4


def test_time_without_requests_does_not_count() -> None:
    now = [0.0]
    admission = Admission(100, free=1, between_ms=10, clock=lambda: now[0])
    for _ in range(50):
        now[0] += 3_600
        request = admission.enter()
        now[0] += 0.02
        admission.leave(request)
    assert admission.between_ms == pytest.approx(20, rel=0.01)


def test_it_takes_as_many_as_can_be_answered_in_time() -> None:
    admission = Admission(100, free=1, between_ms=10)
    for _ in range(10):
        admission.enter()
    with pytest.raises(BusyError, match="about 110 ms.*10 images are in flight"):
        admission.enter()
    anything = Admission(None, free=1, between_ms=1e9)
    for _ in range(100):
        anything.enter()
    assert anything.in_flight == 100


def test_images_count_and_not_requests() -> None:
    now = [0.0]
    admission = Admission(100, free=4, between_ms=10, clock=lambda: now[0])
    alone = admission.enter()
    alone.has(64)  # an idle service refuses nothing
    with pytest.raises(BusyError, match="about 650 ms.*64 images are in flight, the request has 1"):
        admission.enter()
    now[0] += 0.32
    admission.leave(alone)
    assert admission.in_flight == 0
    assert admission.between_ms == pytest.approx(5, rel=0.05)  # 64 images in 320 ms
    first, second = admission.enter(), admission.enter()
    first.has(10)
    with pytest.raises(BusyError, match="10 images are in flight, the request has 12"):
        second.has(12)  # 110 ms
    assert admission.in_flight == 10 and admission.refused == 2
    third = admission.enter()
    third.has(9)
    before = admission.between_ms
    admission.leave(second)
    assert admission.between_ms == before  # what is refused is no answer
    admission.leave(first)
    admission.leave(third)
    assert admission.in_flight == 0


def test_a_batch_of_images_is_never_refused() -> None:
    slow = Admission(100, free=32, between_ms=60_000)
    first, second = slow.enter(), slow.enter()
    first.has(20)
    second.has(12)
    with pytest.raises(BusyError, match="32 images are in flight"):
        slow.enter()
