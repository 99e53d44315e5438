"""Which requests are answered under load: those whose answer is expected soon enough.

A request is in flight from the moment its body is there to the end of its answer, so decoding,
matching and encoding count as the network does. By Little's law a new one is answered after
(requests in flight + 1) times the mean time between answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MEMORY = 4  # batches of answers over which the time between them is averaged


class BusyError(Exception):
    """An answer would take too long; try again after `seconds`."""

    def __init__(self, message: str, seconds: float = 1.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Admission:
    """Counts the requests in flight, and refuses those that would wait too long. Of one thread.

    Args:
        max_wait_ms: that an answer may be expected to take; None: any time.
        free: requests in flight that are never refused, whatever the estimate: a batch. They
            correct an estimate that was too long.
        between_ms: between two answers, as long as none was given.
        clock: in seconds.

    Attributes:
        in_flight: requests that were taken and are not answered yet.
        refused: requests that were not taken.
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
        """Mean milliseconds between answers while requests were in flight, the last ones most."""
        return self._busy_ms / self._answers

    def enter(self) -> None:
        """Take a request; `leave` must follow.

        Raises:
            BusyError: the answer would take longer than `max_wait_ms`.
        """
        wait = (self.in_flight + 1) * self.between_ms
        if self.max_wait_ms is not None and self.in_flight >= self.free and wait > self.max_wait_ms:
            self.refused += 1
            raise BusyError(
                f"an answer would take about {wait:,.0f} ms, {self.max_wait_ms:g} ms are allowed "
                f"(--max-wait-ms); {self.in_flight} requests are in flight: try again",
                self.in_flight * self.between_ms / 1_000,
            )
        if not self.in_flight:
            self._last = self._clock()
        self.in_flight += 1

    def leave(self) -> None:
        """The answer of a request that was taken is sent, or it failed."""
        now, kept = self._clock(), 1 - 1 / (MEMORY * self.free)
        self._answers = kept * self._answers + 1
        self._busy_ms = kept * self._busy_ms + 1_000 * (now - self._last)
        self._last = now
        self.in_flight -= 1
