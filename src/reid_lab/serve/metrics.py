"""What the service counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily

from reid_lab.serve.admission import Admission
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Scheduler

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Counters of one service; nothing is shared with another in the process."""

    def __init__(self, scheduler: Scheduler, people: People, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "reid_lab_request_seconds", "Time of a request", ["path"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._requests = Counter(
            "reid_lab_requests", "Requests by status", ["status"], registry=self._registry
        )
        load = scheduler.load
        self._gauge("waiting_images", "Images that wait", lambda: load.waiting)
        self._gauge("budget_ms", "Mean budget of a query in force", lambda: load.budget_ms)
        self._gauge("in_flight", "Images in flight", lambda: admission.in_flight)
        self._gauge(
            "between_ms", "Time between answers of images under load", lambda: admission.between_ms
        )
        self._gauge("people", "Known people", lambda: people.count()[0])
        self._gauge("images", "Known images", lambda: people.count()[1])
        self._registry.register(_Totals(scheduler, admission))

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(f"reid_lab_{name}", text, registry=self._registry).set_function(value)

    def answered(self, path: str, status: int, seconds: float) -> None:
        self._seconds.labels(path).observe(seconds)
        self._requests.labels(status).inc()

    def refused(self, status: int) -> None:
        self._requests.labels(status).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Totals:
    """Counts of the scheduler and of the admission, read when they are asked for."""

    def __init__(self, scheduler: Scheduler, admission: Admission) -> None:
        self._scheduler, self._admission = scheduler, admission

    def collect(self) -> list[CounterMetricFamily]:
        load = self._scheduler.load
        exits = CounterMetricFamily("reid_lab_queries", "Queries by exit", labels=["exit"])
        for name in self._scheduler.costs.exits:
            exits.add_metric([name], load.exits[name])
        late = CounterMetricFamily("reid_lab_late", "Queries behind their deadline", load.late)
        spent = CounterMetricFamily("reid_lab_mul_adds", "Mul-Adds of queries", load.mul_adds)
        refused = CounterMetricFamily(
            "reid_lab_refused",
            "Requests refused, which would have waited too long",
            self._admission.refused,
        )
        return [exits, late, spent, refused]
