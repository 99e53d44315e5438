"""A service of one core on a clock that only its work moves, and how fast requests arrive there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from reid_lab.cost.currency import ExitCosts
from reid_lab.serve.admission import Admission, Admitted, BusyError
from reid_lab.serve.people import NewImage, People
from reid_lab.serve.scheduler import Embedded, Scheduler, Target
from tests.serve.network import Colours

BATCH, WAIT_MS = 8, 500.0
STAGE = 0.005  # seconds of an image; there are two
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 1, 1, 3)).repeat(16, 1).repeat(8, 2).astype(np.uint8)


@dataclass
class Answer:
    arrived: float
    answered: float
    exit: str

    @property
    def wait(self) -> float:
        return self.answered - self.arrived


class Simulated(Colours):
    """A service on one core, at which requests arrive at a fixed rate.

    Its clock moves by the work that is done; requests arrive meanwhile. All of it happens in the
    scheduler's thread.

    Args:
        around: seconds of an image's work that is not the network's.
        stall: the time after which one batch takes 5 s more.
        images: images per request.
    """

    def __init__(self, around: float = 0.0, stall: float = float("inf"), images: int = 1) -> None:
        super().__init__()
        self.images = images
        self.now, self.around, self.stall = 0.0, around, stall
        self.due: deque[float] = deque()
        self.answers: list[Answer] = []
        self.refused: list[float] = []
        self.finished = threading.Event()

    def clock(self) -> float:
        return self.now

    def run(
        self, people: People, rate: float, seconds: float, target: Target, wait_ms: float | None
    ) -> Admission:
        """Offer so many requests a second; None: all are admitted."""
        scheduler = Scheduler(self, people, target, BATCH, clock=self.clock)  # type: ignore[arg-type]
        self.submit, self.sent = scheduler.submit, scheduler.sent
        self.admission = Admission(wait_ms, BATCH, float(scheduler.costs.ms[-1]), self.clock)
        self.now, self.due = 0.0, deque(np.arange(1, rate * seconds + 1) / rate)
        self._arrive()
        assert self.finished.wait(60)
        scheduler.close()
        return self.admission

    def _arrive(self) -> None:
        self.now = arrived = float(self.due.popleft())
        request = None
        try:
            request = self.admission.enter()
            request.has(self.images)
        except BusyError:
            self.refused.append(arrived)
            if request is not None:
                self.admission.leave(request)
            return
        images = [IMAGES[(len(self.due) + i) % len(IMAGES)] for i in range(self.images)]
        futures = self.submit(images, arrived=arrived)
        futures[-1].add_done_callback(partial(self._answered, arrived, request))

    def _answered(self, arrived: float, request: Admitted, future: Future[Embedded]) -> None:
        self._work(self.around * self.images)
        self.sent([future.result()])
        self.admission.leave(request)
        self.answers.append(Answer(arrived, self.now, future.result().exit))
        if not self.admission.in_flight:
            if self.due:
                self._arrive()
            else:
                self.finished.set()

    def _work(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and self.due[0] <= end:
            self._arrive()
        self.now = end

    def _embedded(self, exit: str, pixels: np.ndarray) -> np.ndarray:
        if self.now > self.stall:
            self.stall = float("inf")
            self._work(5.0)
        self._work(STAGE * len(pixels))
        return super()._embedded(exit, pixels)

    def measure_exits(
        self,
        batch: int,
        passes: int,
        match: Callable[[str, np.ndarray], object],
        exits: Sequence[str],
    ) -> ExitCosts:
        ms = 1_000 * STAGE * np.arange(1, len(exits) + 1)
        return ExitCosts("latency", tuple(exits), ms, np.zeros(len(exits)))

    def between(self, start: float, end: float) -> list[Answer]:
        return [answer for answer in self.answers if start <= answer.answered < end]


def twenty_people(path: Path) -> People:
    """Known by one of the simulated images each."""
    network = Colours()
    opened = People.open(path, network.manifest)
    for number, image in enumerate(IMAGES[:20]):
        opened.add(str(number), [NewImage()], network.embed(image[None]))
    return opened
