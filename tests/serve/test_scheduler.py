"""Waiting queries: batches, deadlines, and budgets that follow the queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.cost.currency import ExitCosts
from reid_lab.errors import UserError
from reid_lab.serve.admission import BusyError
from reid_lab.serve.people import NewImage, People
from reid_lab.serve.scheduler import Scheduler, Target
from tests.serve.network import SIZE, Colours, Gate

RNG = np.random.default_rng(0)


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    """Fifty people of random colours."""
    network = Colours()
    opened = People.open(tmp_path / "p.sqlite", network.manifest)
    for number in range(50):
        pixels = noise(1)
        opened.add(str(number), [NewImage()], network.embed(pixels))
    yield opened
    opened.close()


def noise(count: int) -> np.ndarray:
    colours = RNG.integers(0, 256, (count, 1, 1, 3))
    return (colours + RNG.integers(0, 10, (count, *SIZE, 3))).clip(0, 255).astype(np.uint8)


def run(scheduler: Scheduler, pixels: np.ndarray, **more: object) -> list[str]:
    futures = scheduler.submit(list(pixels), **more)  # type: ignore[arg-type]
    return [future.result(10).exit for future in futures]


def test_without_a_budget_all_use_the_last_exit(people: People) -> None:
    scheduler = Scheduler(Colours(), people, Target())  # type: ignore[arg-type]
    pixels = noise(70)
    futures = scheduler.submit(list(pixels))
    found = [future.result(10) for future in futures]
    scheduler.close()
    expected = Colours().embed(pixels)["late"]
    for embedded, row in zip(found, expected, strict=True):
        assert embedded.exit == "late" and embedded.mul_adds == 4_000 and embedded.late_ms == 0
        assert np.array_equal(embedded.embeddings["late"], row)
    assert scheduler.load.exits == {"late": 70}


@pytest.mark.parametrize("budget", [1_000, 1_600, 2_500, 3_400, 4_000])
def test_mean_cost_is_the_planned_one(people: People, budget: int) -> None:
    scheduler = Scheduler(Colours(), people, Target(mul_adds=budget))  # type: ignore[arg-type]
    for _ in range(10):
        run(scheduler, noise(40))
    scheduler.close()
    assert scheduler.load.mul_adds / 400 == pytest.approx(budget, rel=0.03)


class Timed(Colours):
    """The exits take 2 and 3 ms of an image in a full batch: not in the ratio of their Mul-Adds."""

    def measure_exits(self, batch: int, *more: Any) -> ExitCosts:
        ms = np.array([2.0, 3.0]) * (1 if batch > 1 else 5)
        return ExitCosts("latency", ("early", "late"), ms, np.zeros(2))


@pytest.mark.parametrize("budget", [2.0, 2.2, 2.5, 2.8, 3.0])
def test_mean_milliseconds_are_the_planned_ones(people: People, budget: float) -> None:
    scheduler = Scheduler(Timed(), people, Target(mean_ms=budget))  # type: ignore[arg-type]
    for _ in range(10):
        run(scheduler, noise(40))
    assert scheduler.load.ms / 400 == pytest.approx(budget, rel=0.03)
    (future,) = scheduler.submit(list(noise(1)), track=True)
    assert future.result(10).exit == ("late" if budget == 3 else "early")
    scheduler.close()


@pytest.mark.parametrize(("budget", "searched"), [(2.0, []), (2.5, ["early"]), (3.0, [])])
def test_only_exits_with_a_choice_are_searched(
    people: People, monkeypatch: pytest.MonkeyPatch, budget: float, searched: list[str]
) -> None:
    scheduler = Scheduler(Timed(), people, Target(mean_ms=budget))  # type: ignore[arg-type]
    scheduler.costs = replace(scheduler.costs, alone=scheduler.costs.ms)
    assert scheduler.planned_ms == pytest.approx(budget) and scheduler.whole_ms == 3
    found, confidence = [], scheduler.confidence

    def recorded(exit: str, *more: Any) -> np.ndarray:
        found.append(exit)
        return confidence(exit, *more)

    monkeypatch.setattr(scheduler, "confidence", recorded)
    run(scheduler, noise(8))
    scheduler.close()
    assert found == searched


@pytest.mark.parametrize("budget", [1.99, 3.01, float("nan")])
def test_impossible_mean_milliseconds(people: People, budget: float) -> None:
    wrong = "mean_ms .* cannot be met: the exits cost 2 to 3 ms per image in a full batch"
    with pytest.raises(UserError, match=wrong) as error:
        Scheduler(Timed(), people, Target(mean_ms=budget))  # type: ignore[arg-type]
    assert error.value.command_text.startswith("--mean-ms ")


def test_easy_queries_exit_early(people: People) -> None:
    """Those near to one person exit before those between two."""
    scheduler = Scheduler(Colours(), people, Target(mul_adds=2_500))  # type: ignore[arg-type]
    run(scheduler, noise(200))
    pixels = noise(200)
    margins = people.margins("early", Colours().embed(pixels)["early"])
    early = np.array([exit == "early" for exit in run(scheduler, pixels)])
    scheduler.close()
    assert np.median(margins[early]) > np.median(margins[~early])


def test_an_excluded_camera_does_not_count_for_the_confidence(people: People) -> None:
    """Sure of the person in camera "own"; between two others without it."""
    for pid, camid, value in [("own", "own", 128), ("a", "c", 127), ("b", "c", 129)]:
        pixels = np.full((1, *SIZE, 3), value, np.uint8)
        people.add(pid, [NewImage(camid)], Colours().embed(pixels))
    query = np.full((20, *SIZE, 3), 128, np.uint8)
    embedded = Colours().embed(query[:1])["early"]
    assert people.margins("early", embedded, ["own"]) < people.margins("early", embedded)
    scheduler = Scheduler(Colours(), people, Target(mul_adds=2_500))  # type: ignore[arg-type]
    run(scheduler, noise(200))
    assert run(scheduler, query, exclude="own") == ["late"] * 20
    scheduler.close()


class Held(Colours):
    """Waits at the last exit until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def _embedded(self, exit: str, pixels: np.ndarray) -> np.ndarray:
        assert exit == "early" or self.open.wait(10)
        return super()._embedded(exit, pixels)


def test_who_exits_is_answered_while_others_go_on(people: People) -> None:
    network = Held()
    scheduler = Scheduler(network, people, Target(mul_adds=2_500))  # type: ignore[arg-type]
    run(scheduler, noise(200))
    network.open.clear()
    futures = scheduler.submit(list(noise(30)))
    first, _ = wait(futures, 10, FIRST_COMPLETED)
    assert first and all(future.result().exit == "early" for future in first)
    assert not all(future.done() for future in futures)
    network.open.set()
    exits = [future.result(10).exit for future in futures]
    scheduler.close()
    assert {*exits} == {"early", "late"} and scheduler.load.exits.total() == 230


@pytest.mark.parametrize("budget", [999, 4_001, float("nan")])
def test_impossible_budgets(people: People, budget: float) -> None:
    with pytest.raises(UserError, match="cannot be met: the exits cost 1000 to 4000"):
        Scheduler(Colours(), people, Target(mul_adds=budget))  # type: ignore[arg-type]


def test_a_budget_needs_a_second_exit(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "queries", ("late",))
    with pytest.raises(UserError, match="of 'late' only, .* add the gallery of an") as error:
        Scheduler(Colours(), people, Target(mul_adds=2_500))  # type: ignore[arg-type]
    assert "add the --gallery of an" in error.value.command_text


def test_a_long_queue_lowers_the_budget(people: People) -> None:
    """A stage takes 20 ms whatever its batch: one query has time for both, five batches do not."""
    network = Colours(seconds=0.02)
    scheduler = Scheduler(network, people, Target(ms=90), batch=8)  # type: ignore[arg-type]
    assert [run(scheduler, noise(1))[0] for _ in range(5)] == ["late"] * 5
    exits = run(scheduler, noise(40))
    scheduler.close()
    assert exits.count("early") > 20


def test_a_deadline_of_a_request_ends_it_at_the_first_exit(people: People) -> None:
    network = Colours(seconds=0.02)
    scheduler = Scheduler(network, people, Target())  # type: ignore[arg-type]
    assert run(scheduler, noise(1), ms=1.0) == ["early"]
    assert run(scheduler, noise(1), ms=5_000.0) == ["late"]
    (future,) = scheduler.submit(list(noise(1)), ms=1.0)
    assert future.result(10).late_ms > 0
    scheduler.close()
    assert scheduler.load.late == 2


def test_every_exit_on_request(people: People) -> None:
    scheduler = Scheduler(Colours(), people, Target(mul_adds=1_000))  # type: ignore[arg-type]
    (future,) = scheduler.submit(list(noise(1)), every=True)
    assert set(future.result(10).embeddings) == {"early", "late"}
    scheduler.close()
    assert not scheduler.load.exits  # not a query


def test_a_track_keeps_to_its_time_and_budget_together(people: People) -> None:
    network = Colours(seconds=0.02)
    scheduler = Scheduler(network, people, Target())  # type: ignore[arg-type]
    for ms, exits in ((None, {"early", "late"}), (1.0, {"early"}), (10_000.0, {"early", "late"})):
        futures = scheduler.submit(list(noise(5)), ms=ms, track=True)
        assert [{*future.result(10).embeddings} for future in futures] == [exits] * 5
    scheduler.close()
    assert scheduler.load.exits == {"late": 10, "early": 5}
    scheduler = Scheduler(Colours(), people, Target(mul_adds=3_900))  # type: ignore[arg-type]
    (future,) = scheduler.submit(list(noise(1)), track=True)
    assert future.result(10).exit == "early"  # a whole image costs 4,000
    scheduler.close()


def test_requests_that_arrive_together_are_batched(people: People) -> None:
    network = Colours(seconds=0.02)
    scheduler = Scheduler(network, people, Target(), batch=8)  # type: ignore[arg-type]
    network.batches.clear()
    futures = [scheduler.submit(list(noise(1)))[0] for _ in range(17)]
    for future in futures:
        future.result(10)
    scheduler.close()
    assert sum(network.batches) == 17
    assert max(network.batches) == 8


def test_a_full_queue_refuses(people: People) -> None:
    scheduler = Scheduler(Colours(), people, Target(), queue=3)  # type: ignore[arg-type]
    with pytest.raises(BusyError, match="3 may wait"):
        scheduler.submit(list(noise(4)))
    scheduler.close()
    with pytest.raises(BusyError, match="stopping"):
        scheduler.submit(list(noise(1)))


def test_images_of_a_request_that_has_ended_are_left_out(people: People) -> None:
    network = Gate()
    scheduler = Scheduler(network, people, Target())  # type: ignore[arg-type]
    network.shut = True
    (first,) = scheduler.submit(list(noise(1)))
    assert network.taken.acquire(timeout=10)
    ended, last = scheduler.submit(list(noise(2)))
    assert ended.cancel()
    for _ in range(2):
        network.opened.release()
    assert first.result(10).exit == last.result(10).exit == "late"
    scheduler.close()
    assert network.batches[-2:] == [1, 1]


def test_an_error_is_of_its_batch_only(people: People) -> None:
    network = Colours()
    scheduler = Scheduler(network, people, Target())  # type: ignore[arg-type]
    (wrong,) = scheduler.submit([np.zeros((0, 0, 3), np.float32)])
    with pytest.raises(Exception):  # noqa: B017
        wrong.result(10)
    assert run(scheduler, noise(2)) == ["late", "late"]
    costs, scheduler.costs = scheduler.costs, None  # type: ignore[assignment]
    (unplanned,) = scheduler.submit(list(noise(1)))
    with pytest.raises(AttributeError):
        unplanned.result(10)
    scheduler.costs = costs
    assert run(scheduler, noise(2)) == ["late", "late"]
    scheduler.close()


def test_the_whole_network_is_a_budget_whatever_it_costs(people: People) -> None:
    """A mean of equal numbers may be above them by rounding, which no exit can meet."""
    scheduler = Scheduler(Colours(), people, Target())  # type: ignore[arg-type]
    above = 0
    for last in np.random.default_rng(1).uniform(2.0, 3.0, 30):
        times = np.array([1.0, last])
        scheduler.costs = replace(scheduler.costs, ms=times, alone=times)
        for count in (3, 7, 20, 31):
            each = scheduler.costs.total(count)[-1] / count
            above += np.full(count, each).mean() > each
            assert run(scheduler, noise(count)) == ["late"] * count
            assert scheduler.rule.probabilities.tolist() == [0, 1]  # exactly: nobody is asked
    scheduler.close()
    assert above > 0
