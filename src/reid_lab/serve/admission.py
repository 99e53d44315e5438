"""Admission control under load: requests are accepted if their answer is expected in time.

Images are counted, since a request may have many. They are in flight from the arrival of the
request's body to the end of its answer, which includes decoding, the network, matching and
encoding. By Little's law a new request is answered after (images in flight, its own included) times
the mean time between answered images.
"""

from __future__ import annotations

import time
from collections.abc import Callable

AVERAGED_BATCHES = 4  # batches over which the time between answers is averaged


class BusyError(Exception):
    """An answer would take too long; try again after `seconds`."""

    def __init__(self, message: str, seconds: float = 1.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Admitted:
    """An accepted request.

    Attributes:
        images: number of images that it counts as: one until its body is read, none if it is then
            refused.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission, self.images = admission, 1

    def has(self, images: int) -> None:
        """Set the number of images, once the body is read.

        Raises:
            BusyError: the answer would take too long.
        """
        counted, self.images = self.images, 0  # as an answer, if it is refused
        self._admission.in_flight -= counted
        self._admission.check(images)
        self._admission.in_flight += images
        self.images = images


class Admission:
    """Counts the images in flight and refuses requests that would wait too long. For one thread.

    Args:
        max_wait_ms: limit on the expected time of an answer; None: no limit.
        free: number of images in flight that are always accepted, such as a batch; they correct an
            estimate that was too long. A single request is never refused.
        between_ms: initial time between the answers of two images.
        clock: returns the time in seconds.

    Attributes:
        in_flight: images of accepted requests that are not answered yet.
        refused: number of refused requests.
    """

    def __init__(
        self,
        max_wait_ms: float | None,
        free: int,
        between_ms: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.max_wait_ms, self.free, self._clock = max_wait_ms, free, clock
        self.in_flight = self.refused = 0
        # Answers of a batch come together: times and counts are averaged apart, the quotient last.
        self._answers, self._busy_ms = float(free), between_ms * free
        self._last = 0.0  # the last answer, or the first request after a time without any

    @property
    def between_ms(self) -> float:
        """Mean milliseconds between answered images under load, weighted towards recent ones."""
        return self._busy_ms / self._answers

    def enter(self) -> Admitted:
        """Accept a request of at least one image; `leave` must follow.

        Raises:
            BusyError: the answer would take longer than `max_wait_ms`.
        """
        self.check(1)
        if not self.in_flight:
            self._last = self._clock()
        self.in_flight += 1
        return Admitted(self)

    def check(self, images: int) -> None:
        """Check that a request with this many images is expected to be answered in time.

        Raises:
            BusyError: it would take longer than `max_wait_ms`.
        """
        others = self.in_flight
        wait = (others + images) * self.between_ms
        allowed = self.max_wait_ms is None or wait <= self.max_wait_ms
        if allowed or not others or others + images <= self.free:
            return
        self.refused += 1
        raise BusyError(
            f"an answer would take about {wait:,.0f} ms, {self.max_wait_ms:g} ms are allowed "
            f"(--max-wait-ms); {others} images are in flight, the request has {images}: try again",
            others * self.between_ms / 1_000,
        )

    def leave(self, request: Admitted) -> None:
        """Note that an accepted request is answered or has failed."""
        now, kept = self._clock(), (1 - 1 / (AVERAGED_BATCHES * self.free)) ** request.images
        self._answers = kept * self._answers + request.images
        self._busy_ms = kept * self._busy_ms + 1_000 * (now - self._last)
        self._last = now
        self.in_flight -= request.images
