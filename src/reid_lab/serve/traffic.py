"""Traffic around the network: the rate of arrivals, and the time to send answers."""

from __future__ import annotations

from collections import deque
from statistics import median

RECENT_ARRIVALS = 64  # latest requests, whose mean rate is used
RECENT_ANSWERS = 15  # latest answers, whose median time is used


class Traffic:
    """The last arrivals and answers. Times are of the scheduler's clock, in seconds."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=RECENT_ARRIVALS)
        self._sending: deque[float] = deque(maxlen=RECENT_ANSWERS)

    def arrived(self, when: float, images: int) -> None:
        """Record the arrival of this many images."""
        self._arrivals.append((when, images))

    def sent(self, ms: float) -> None:
        """Record the milliseconds from the network's answer to sending: matching, JSON, HTTP."""
        self._sending.append(ms)

    def between_ms(self, now: float) -> float:
        """Mean milliseconds between recent images; infinite for a first request."""
        later = sum(count for _, count in self._arrivals) - self._arrivals[0][1]
        return 1_000 * (now - self._arrivals[0][0]) / later if later else float("inf")

    @property
    def sending_ms(self) -> float:
        """Median milliseconds from the network's answer to its sending; 0 before the first one."""
        return median(self._sending) if self._sending else 0.0
