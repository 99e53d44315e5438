"""Run waiting queries together, each as deep in the network as its time allows.

One thread takes the waiting images, up to a batch, and sends them from exit to exit. The mean
budget of an image follows the queue: the remaining time of the most urgent image, divided by the
number of waiting images. DaRe's shares (equation 3) and running quantiles of each exit's last
confidences (`WINDOW`) turn that into which queries exit where, so a service under load answers with
earlier exits instead of later. A mean budget in Mul-Adds or in profiled milliseconds of a full
batch is solved once instead, whatever the queue.

A query that would miss its deadline at the next exit ends at this one, whatever its confidence; see
`prices` for the expected time. The median time from the network's answers to their sending is set
aside. A deadline below what the first exit takes of a single image asks for the first exit.

If a query has waited so long that no exit can keep its deadline, an early exit would only cost
accuracy. It may then spend half of the time between arrivals: with the other half to spare, the
network is not the bottleneck. While images are left waiting behind the batch, it is, and such a
query may spend as much as the first exit takes. The mean over recent batches is what counts: if
batches took the first and the last exit in turns, confidence would decide nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from reid_lab.budget.stream import Draws, RunningQuantile, exit_probabilities, exit_shares, solve_a
from reid_lab.errors import UserError, with_options
from reid_lab.runtime.model import Model
from reid_lab.serve.admission import BusyError
from reid_lab.serve.people import People
from reid_lab.serve.prices import MIN_STEP_MS, StepPrices, profile
from reid_lab.serve.traffic import Traffic

RoutingPolicy = Literal["margin", "distance"]
WINDOW_QUERIES = 512  # queries whose confidences an exit remembers
HORIZON_QUERIES = 64  # queries over which a deviation from the planned shares is corrected
BUSY_SHARE = 0.5  # share of the time between arrivals from which the network is a bottleneck
AVERAGED_BATCHES = 16  # batches over which the budget of late queries is averaged
DEADLINE_RESERVE = 0.1  # share of a deadline kept for matching and sending


@dataclass(frozen=True)
class Embedded:
    """An answer of the network.

    Attributes:
        embeddings: exit -> (D,): one exit for a query, all exits for an image to add, all up to the
            last one reached for an image of a track.
        exit: the last of these exits.
        mul_adds: Mul-Adds spent.
        ms: milliseconds from arrival to answer.
        late_ms: milliseconds after the deadline; 0 if in time.
        done: time of the network's answer, on the scheduler's clock.
    """

    embeddings: dict[str, np.ndarray]
    exit: str
    mul_adds: float
    ms: float
    late_ms: float
    done: float = 0.0


@dataclass
class WaitingImage:
    """A waiting image (H, W, 3) uint8; times are of the scheduler's clock.

    Attributes:
        lost: whether it has waited so long that no exit can keep its deadline.
    """

    pixels: np.ndarray
    arrived: float
    deadline: float
    every: bool  # embed at every exit, whatever it costs
    track: bool  # of a track: at every exit that its time and budget allow
    exclude: str | None  # a camera whose images it is not compared with
    future: Future[Embedded] = field(default_factory=Future)
    lost: bool = False

    @property
    def allowed_ms(self) -> float:
        return 1_000 * (self.deadline - self.arrived)


@dataclass(frozen=True)
class Target:
    """The budget of a query.

    Attributes:
        ms: milliseconds from arrival to answer, unless a request sets its own; None: no limit.
        mul_adds: mean Mul-Adds per query, whatever the queue; None: as the time allows.
        mean_ms: mean milliseconds per image in a full batch, whatever the queue; or None.
        policy: how the confidence of an exit is measured.
    """

    ms: float | None = None
    mul_adds: float | None = None
    mean_ms: float | None = None
    policy: RoutingPolicy = "margin"


@dataclass
class Load:
    """Statistics of the scheduler; Mul-Adds and milliseconds are sums over all queries."""

    waiting: int = 0
    budget_ms: float = 0.0
    exits: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    late: int = 0
    mul_adds: float = 0.0
    ms: float = 0.0  # by the profile of a full batch


class Scheduler:
    """Embeds images in a dedicated thread until it is closed.

    Args:
        model: the exported network.
        people: the gallery, whose exits are used.
        target: budget of every query.
        batch: most images per batch.
        queue: most images that may wait.
        clock: returns the time in seconds.

    Raises:
        UserError: the network cannot meet the target.
    """

    def __init__(
        self,
        model: Model,
        people: People,
        target: Target,
        batch: int = 32,
        queue: int = 1_024,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.people, self.target = model, people, target
        self.batch, self.queue, self.clock = batch, queue, clock
        self.load = Load()
        self.names = tuple(e.name for e in model.manifest.exits if e.name in people.queries)
        self.draws = Draws(len(self.names), seed=0)
        self.rule = RunningQuantile(np.ones(len(self.names)), HORIZON_QUERIES, WINDOW_QUERIES)
        self.costs = profile(model, self.names, batch, self.confidence)
        self.prices, self.traffic = StepPrices(self.costs), Traffic()
        # of the way from the first exit's cost to the last one's
        self._late_share: float | None = None
        self._check()
        self._waiting: deque[WaitingImage] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    def submit(
        self,
        pixels: Sequence[np.ndarray],
        ms: float | None = None,
        every: bool = False,
        arrived: float | None = None,
        exclude: str | None = None,
        track: bool = False,
    ) -> list[Future[Embedded]]:
        """Queue images (H, W, 3) uint8 RGB at the network's size; results are in their order.

        Args:
            ms: time for all of them; None takes the target's.
            every: embed at every exit.
            arrived: arrival time of their request, on the scheduler's clock; None is now.
            exclude: camera whose images are ignored in their confidence.
            track: whether they are of one person and compared by their mean: all are embedded up to
                the last exit that time and budget allow, instead of exiting separately.

        Raises:
            BusyError: the queue is full, or closed.
        """
        arrived = self.clock() if arrived is None else arrived
        allowed = ms if ms is not None else self.target.ms
        deadline = arrived + allowed / 1_000 if allowed is not None else np.inf
        jobs = [WaitingImage(p, arrived, deadline, every, track, exclude) for p in pixels]
        with self._changed:
            if self._closed:
                raise BusyError("the service is stopping")
            if len(self._waiting) + len(jobs) > self.queue:
                raise BusyError(
                    f"{len(self._waiting)} images are waiting and {self.queue} may wait: try again"
                )
            self._waiting.extend(jobs)
            self.traffic.arrived(self.clock(), len(jobs))
            self.load.waiting = len(self._waiting)
            self._changed.notify()
        return [job.future for job in jobs]

    def close(self) -> None:
        """Answer all waiting images, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _mean(self) -> tuple[np.ndarray, float] | None:
        """(S,) cost of each exit, and the mean of the target; None if the target has no mean."""
        if self.target.mul_adds is not None:
            return self.costs.mul_adds, self.target.mul_adds
        if self.target.mean_ms is not None:
            return self.costs.ms, self.target.mean_ms
        return None

    @property
    def planned_ms(self) -> float | None:
        """Expected milliseconds of an image in a full batch at the mean budget, if there is one."""
        mean = self._mean()
        if mean is None:
            return None
        costs, budget = mean
        return self.costs.streamed(_probabilities(tuple(costs.tolist()), budget))

    @property
    def whole_ms(self) -> float:
        """Expected milliseconds of an image in a full batch if all take the last exit."""
        return self.costs.streamed(np.eye(len(self.names))[-1])

    def _check(self) -> None:
        """Raises: UserError: the mean budget cannot be met."""
        mean = self._mean()
        if mean is None:
            return
        costs, budget = mean
        first, last = costs[[0, -1]]
        if not first <= budget <= last:
            ms = self.target.mul_adds is None
            unit = "ms per image in a full batch" if ms else "Mul-Adds per image"
            texts = []
            for option, gallery in (
                ("mean_ms" if ms else "mul_adds", "gallery"),
                ("--mean-ms" if ms else "--mul-adds", "--gallery"),
            ):
                fix = "choose a budget in between"
                if len(self.names) == 1:
                    fix = (
                        f"the people have embeddings of {self.names[0]!r} only, so all queries "
                        f"exit there: add the {gallery} of an earlier exit (reid-lab gallery build "
                        f"--exit), or leave {option} out"
                    )
                texts.append(
                    f"{option} {budget:.4g} cannot be met: the exits cost {first:.4g} to "
                    f"{last:.4g} {unit}; {fix}"
                )
            raise with_options(UserError(texts[0]), texts[1])

    def _work(self) -> None:
        while jobs := self._taken():
            # those whose request has ended are left out
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            together = [job for job in jobs if job.track and not job.every]
            for some, run in (
                (jobs, self._plan),
                ([job for job in jobs if job.every], self._embed),
                (together, self._embed_track),
                ([job for job in jobs if not (job.every or job.track)], self._stream),
            ):
                some = [job for job in some if not job.future.done()]
                if not some:
                    continue
                try:
                    run(some)
                except Exception as error:  # of this batch only; the service goes on
                    for job in some:
                        if not job.future.done():
                            job.future.set_exception(error)

    def _taken(self) -> list[WaitingImage]:
        """The next batch, in the order of arrival; empty when the scheduler is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            count = min(len(self._waiting), self.batch)
            jobs = [self._waiting.popleft() for _ in range(count)]
            self.load.waiting = len(self._waiting)
        return jobs

    def _plan(self, jobs: list[WaitingImage]) -> None:
        """Set the shares of the exits for the next batch."""
        queries = [job for job in jobs if not job.every]
        if not queries or len(self.names) == 1:
            return
        # who waits beyond this batch is in later ones, of the same size
        costs = self.costs.total(len(jobs)) / len(jobs)
        with self._changed:
            backlog = len(jobs) + len(self._waiting)
            budget = self._within_deadlines(queries, costs, len(jobs), backlog)
        if mean := self._mean():
            costs, budget = mean
        else:
            self.load.budget_ms = budget
        self.rule.probabilities = _probabilities(tuple(costs.tolist()), budget)

    def _within_deadlines(
        self, queries: Sequence[WaitingImage], costs: np.ndarray, taken: int, backlog: int
    ) -> float:
        """Mean milliseconds that queries of a batch may take; marks lost queries.

        Args:
            costs: (S,) cost of an image in a batch of `taken`.
            backlog: number of waiting images, including the batch.
        """
        left = self.left_ms(np.array([job.deadline for job in queries]))
        kept = left >= taken * costs[0]
        for job, in_time in zip(queries, kept.tolist(), strict=True):
            job.lost = not in_time and self.possible(job)
        lost = np.array([job.lost for job in queries])
        budgets = np.full(len(queries), costs[0])
        if kept.any():
            budgets[kept] = (1 - DEADLINE_RESERVE) * left[kept].min() / backlog
        if lost.any():
            budgets[lost] = self._late_budget(costs, waits=backlog > taken)
        mean = budgets.clip(costs[0], costs[-1]).mean()
        return float(mean.clip(costs[0], costs[-1]))  # a mean of equal numbers may be above them

    def _late_budget(self, costs: np.ndarray, waits: bool) -> float:
        """Mean milliseconds that a lost query may take, averaged over recent batches.

        Args:
            costs: (S,) cost of an image.
            waits: whether images are left waiting behind the batch.
        """
        now = costs[0] if waits else BUSY_SHARE * self.traffic.between_ms(self.clock())
        way = costs[-1] - costs[0]
        share = float(np.clip((now - costs[0]) / max(way, MIN_STEP_MS), 0, 1))
        if self._late_share is not None:
            share = self._late_share + (share - self._late_share) / AVERAGED_BATCHES
        self._late_share = share
        return float(costs[0] + share * way)

    def left_ms(self, deadlines: np.ndarray) -> np.ndarray:
        """(N,) milliseconds left for the network until the deadlines, without sending answers."""
        return 1_000 * (deadlines - self.clock()) - self.traffic.sending_ms

    def possible(self, job: WaitingImage) -> bool:
        """Whether an idle service could keep the deadline; otherwise it means the first exit."""
        return job.allowed_ms >= float(self.costs.alone[0])

    def _embed_track(self, jobs: list[WaitingImage]) -> None:
        """Embed up to the last exit that time and budget allow, at least the first."""
        total, count = self.costs.total(len(jobs)), len(jobs)
        if all(job.lost for job in jobs):
            fits = total <= count * (self.load.budget_ms if self._mean() is None else np.inf)
        else:
            left = self.left_ms(np.array([job.deadline for job in jobs]))
            fits = total <= (1 - DEADLINE_RESERVE) * left.min()
        if mean := self._mean():
            fits &= mean[0] <= mean[1]
        self._embed(jobs, self.names[: max(1, int(fits.sum()))])

    def _embed(self, jobs: list[WaitingImage], names: Sequence[str] | None = None) -> None:
        """Embed at the exits `names`; None: at all, by the whole network."""
        exits = self.model.embed(np.stack([job.pixels for job in jobs]), names or self.names)
        for i, job in enumerate(jobs):
            self.answer(job, {name: rows[i] for name, rows in exits.items()})

    def _stream(self, jobs: list[WaitingImage]) -> None:
        """Embed with early exit; a query is answered at its exit, while others go on."""
        pixels = np.stack([job.pixels for job in jobs])
        if len(self.names) == 1:
            rows = self.model.embed_until(pixels, self.names[0])
            for job, row in zip(jobs, rows, strict=True):
                self.answer(job, {self.names[0]: row})
            return
        chooser = _Chooser(self, jobs)
        streamed = self.model.stream(pixels, chooser)
        chooser.stepped()
        for job, exit, row in zip(jobs, streamed.exits, streamed.embeddings, strict=True):
            if not job.future.done():
                self.answer(job, {exit: row})

    def confidence(
        self, exit: str, rows: np.ndarray, exclude: Sequence[str | None] = ()
    ) -> np.ndarray:
        if self.target.policy == "margin":
            return self.people.margins(exit, rows, exclude)
        return -self.people.nearest(exit, rows, exclude)

    def answer(self, job: WaitingImage, embeddings: dict[str, np.ndarray]) -> None:
        now, exit = self.clock(), list(embeddings)[-1]
        late = max(0.0, now - job.deadline) * 1_000
        index = self.names.index(exit)
        mul_adds = float(self.costs.mul_adds[index])
        ms = (now - job.arrived) * 1_000
        if not job.every:
            self.load.exits[exit] += 1
            self.load.late += late > 0
            self.load.mul_adds += mul_adds
            self.load.ms += float(self.costs.ms[index])
        job.future.set_result(Embedded(embeddings, exit, mul_adds, ms, late, now))

    def sent(self, found: Sequence[Embedded]) -> None:
        """Note that the answer to a request is sent."""
        if found:
            self.traffic.sent(1_000 * (self.clock() - max(e.done for e in found)))


@lru_cache(64)  # a mean budget has one solution, and so have full batches without a deadline
def _probabilities(costs: tuple[float, ...], budget: float) -> np.ndarray:
    """(S,) probabilities of taking an exit that is reached, for a mean cost of `budget`."""
    # at the last exit's cost but for rounding, a share of rounding would search the gallery for
    # nothing
    whole = budget >= costs[-1] * (1 - 1e-9)
    a = np.inf if whole else solve_a(np.array(costs), budget)
    shares = exit_shares(a, len(costs))
    return exit_probabilities(shares)


class _Chooser:
    """Decide which queries of a batch exit, at one exit after the other."""

    def __init__(self, scheduler: Scheduler, jobs: Sequence[WaitingImage]) -> None:
        self._scheduler, self._jobs = scheduler, jobs
        _, self._within = scheduler.draws.take(len(jobs))
        self._remaining = np.arange(len(jobs))
        self._deadlines = np.array([job.deadline for job in jobs])
        self._lost = np.array([job.lost for job in jobs])
        self._possible = np.array([scheduler.possible(job) for job in jobs])
        self._left: tuple[int, float] | None = None  # the last exit, and when it was left

    def __call__(self, exit: str, rows: np.ndarray) -> np.ndarray:
        scheduler = self._scheduler
        if exit not in scheduler.names:
            return np.zeros(len(rows), dtype=bool)
        s = scheduler.names.index(exit)
        out = np.zeros(len(rows), dtype=bool)
        leaving = scheduler.rule.probabilities[s]
        if leaving == 1:
            out[:] = True  # whatever their confidence
        elif leaving:
            exclude = [self._jobs[i].exclude for i in self._remaining.tolist()]
            confidence = scheduler.confidence(exit, rows, exclude)
            out = scheduler.rule.exits_here(s, confidence, self._within[self._remaining, s])
        self.stepped()
        # a query that would miss its deadline at the next exit ends here, unless it is missed
        left_ms = scheduler.left_ms(self._deadlines[self._remaining])
        missed = self._lost[self._remaining]
        missed |= self._possible[self._remaining] & (left_ms < 0)
        out |= scheduler.prices.too_late(s, left_ms) & ~missed
        for i in np.flatnonzero(out).tolist():
            scheduler.answer(self._jobs[int(self._remaining[i])], {exit: rows[i]})
        self._remaining = self._remaining[~out]
        self._left = (s, scheduler.clock())
        return out

    def stepped(self) -> None:
        """Record the time of the step to this exit."""
        if self._left is None or not len(self._remaining):
            return
        (exit, when), scheduler = self._left, self._scheduler
        scheduler.prices.took(exit, len(self._remaining), (scheduler.clock() - when) * 1_000)
