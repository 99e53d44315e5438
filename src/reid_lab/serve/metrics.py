"""Metrics of the service in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)

from reid_lab.serve.admission import Admission
from reid_lab.serve.in_force import InForce, UpgradeName
from reid_lab.serve.scheduler import Load

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # bounds of the histograms


class Metrics:
    """Counters of one service, not shared with others in the process.

    Counters of queries are of the current model: they restart from 0 with a new one.
    """

    def __init__(self, in_force: InForce, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "reid_lab_request_seconds", "Time of a request", ["path"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._requests = Counter(
            "reid_lab_requests", "Requests by status", ["status"], registry=self._registry
        )

        def load() -> Load:
            return in_force.now.scheduler.load

        self._gauge("waiting_images", "Images that wait", lambda: load().waiting)
        self._gauge("budget_ms", "Current mean budget of a query", lambda: load().budget_ms)
        self._gauge("in_flight", "Images in flight", lambda: admission.in_flight)
        self._gauge(
            "between_ms", "Time between answers of images under load", lambda: admission.between_ms
        )
        self._gauge("people", "Known people", lambda: in_force.now.people.count()[0])
        self._gauge("images", "Known images", lambda: in_force.now.people.count()[1])
        self._registry.register(_Totals(in_force, admission))

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
    """Counts of scheduler and admission, and the model, collected on request."""

    def __init__(self, in_force: InForce, admission: Admission) -> None:
        self._in_force, self._admission = in_force, admission

    def collect(self) -> list[Metric]:
        scheduler = self._in_force.now.scheduler
        load = scheduler.load
        exits = CounterMetricFamily("reid_lab_queries", "Queries by exit", labels=["exit"])
        for name in scheduler.costs.exits:
            exits.add_metric([name], load.exits[name])
        late = CounterMetricFamily("reid_lab_late", "Queries behind their deadline", load.late)
        spent = CounterMetricFamily("reid_lab_mul_adds", "Mul-Adds of queries", load.mul_adds)
        ms = CounterMetricFamily(
            "reid_lab_profiled_ms", "Milliseconds of queries, by the profile of the start", load.ms
        )
        refused = CounterMetricFamily(
            "reid_lab_refused",
            "Requests refused, which would have waited too long",
            self._admission.refused,
        )
        return [exits, late, spent, ms, refused, self._target(), *self._model()]

    def _target(self) -> Metric:
        target = self._in_force.now.scheduler.target
        found = GaugeMetricFamily(
            "reid_lab_target", "What a query may spend, by the command line", labels=["of"]
        )
        for name in ("ms", "mul_adds", "mean_ms"):
            if (value := getattr(target, name)) is not None:
                found.add_metric([name], value)
        return found

    def _model(self) -> list[Metric]:
        model = InfoMetricFamily("reid_lab_model", "The current export")
        model.add_metric([], {"fingerprint": self._in_force.now.fingerprint})
        upgrade = StateSetMetricFamily("reid_lab_upgrade", "The last upgrade to a new model")
        now = self._in_force.upgrade
        upgrade.add_metric([], {state: state == now.state for state in get_args(UpgradeName)})
        embedded = GaugeMetricFamily(
            "reid_lab_upgrade_embedded", "Images that the new model has embedded", now.embedded
        )
        return [model, upgrade, embedded]
