"""What tests of the routes share: clients of a service in this process, and requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from reid_lab.serve.admission import Admission
from reid_lab.serve.app import build_app
from reid_lab.serve.frontier import ServedAccuracy
from reid_lab.serve.guard import Limits
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Scheduler, Target
from reid_lab.serve.service import Service
from reid_lab.serve.upgrade import Upgrader
from tests.serve.network import Colours, png

RED, GREEN, BLUE = (200, 10, 10), (10, 200, 10), (10, 10, 200)
LIMITS = Limits(body=200_000, pixels=10_000, images=4, seconds=5.0, requests=8)
Make = Callable[..., TestClient]


def upgrader_to(
    in_force: InForce, network: Callable[[], Any], target: Target | None = None
) -> Upgrader:
    """An upgrader to a network that `network` opens, without galleries."""

    def start(model: Any, people: People) -> Serving:
        return Serving(model, people, Scheduler(model, people, target or Target()))

    return Upgrader(in_force, lambda metric: (network(), {}), start, lambda people, galleries: 0)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    opened: list[tuple[Upgrader, InForce]] = []

    def client(
        key: str = "",
        target: Target | None = None,
        limits: Limits = LIMITS,
        accept_thresholds: Any = None,
        network: Any = None,
        max_wait_ms: float | None = None,
        upgrade: Any = None,
    ) -> TestClient:
        network = network or Colours()
        network.manifest = replace(network.manifest, accept_thresholds=accept_thresholds or {})
        people = People.open(tmp_path / "p.sqlite", network.manifest)
        scheduler = Scheduler(network, people, target or Target())
        admission = Admission(max_wait_ms, free=1, between_ms=40_000.0)
        points = [ServedAccuracy("early", 1_000, 0.2, 0.1)]
        in_force = InForce(Serving(network, people, scheduler, points))
        upgrader = upgrader_to(in_force, upgrade or (lambda: Colours()), target)
        opened.append((upgrader, in_force))
        service = Service(in_force, upgrader, admission, limits, Metrics(in_force, admission))
        app = build_app(service, key, frozenset({"127.0.0.1"}))
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    yield client
    for upgrader, in_force in opened:
        upgrader.close()
        in_force.now.scheduler.close()
        in_force.now.people.close()


@pytest.fixture
def client(make: Make) -> TestClient:
    return make()


def files(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", ("x.png", image)) for image in images]


def enroll(client: TestClient, **people: tuple[int, int, int]) -> None:
    for pid, colour in people.items():
        assert (
            client.post("/enroll", files=files(png(*colour)), data={"pid": pid}).status_code == 201
        )


def error(response: Any, status: int, text: str = "") -> None:
    assert response.status_code == status, response.text
    body = response.json()["error"]
    assert body["status"] == status and text in body["message"], body
