"""The routes of the model: health, status, and the upgrade to a new one."""

from __future__ import annotations

from fastapi import FastAPI

from reid_lab import __version__
from reid_lab.serve.answers import ExitAnswer, HealthAnswer, StatusAnswer, UpgradeAnswer
from reid_lab.serve.guard import RequestError
from reid_lab.serve.service import Service


def add_model(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    in_force = service.in_force

    @app.get("/health")
    def health() -> HealthAnswer:
        """Whether the service answers, and with which model."""
        return HealthAnswer(
            status="ok",
            version=__version__,
            model=in_force.now.fingerprint,
            target=in_force.now.scheduler.target,
            upgrade=in_force.upgrade.state,
        )

    @app.get("/status")
    def status() -> StatusAnswer:
        """The exits, what they cost here, the current budget, and where queries exited."""
        return _status(service)

    @app.post("/model", status_code=202)
    def upgrade() -> UpgradeAnswer:
        """Read the folders of the model and the galleries again, and move to what they hold.

        The current model answers until the new one has embedded all people; GET /status has the
        state.
        """
        if not service.upgrader.begin():
            raise RequestError(409, "an upgrade is running: GET /status has its state")
        return UpgradeAnswer(model=in_force.now.fingerprint, upgrade=in_force.upgrade)


def _status(service: Service) -> StatusAnswer:
    serving = service.in_force.now
    scheduler, manifest = serving.scheduler, serving.model.manifest
    costs, load = scheduler.costs, scheduler.load
    rows = zip(costs.exits, costs.mul_adds, costs.ms, costs.alone, strict=True)
    people, images = serving.people.count()
    answered = load.exits.total()
    return StatusAnswer(
        model=manifest.fingerprint,
        precision=manifest.precision,
        card=manifest.card,
        image=manifest.preprocessing.image,
        exits=[
            ExitAnswer(name=name, mul_adds=m, ms=ms, alone_ms=alone, queries=load.exits[name])
            for name, m, ms, alone in rows
        ],
        target=scheduler.target,
        budget_ms=load.budget_ms,
        waiting=load.waiting,
        late=load.late,
        in_flight=service.admission.in_flight,
        refused=service.admission.refused,
        max_wait_ms=service.admission.max_wait_ms,
        mean_mul_adds=load.mul_adds / answered if answered else None,
        mean_ms=load.ms / answered if answered else None,
        planned_ms=scheduler.planned_ms,
        whole_ms=scheduler.whole_ms,
        upgrade=service.in_force.upgrade,
        frontier=list(serving.frontier),
        people=people,
        images=images,
    )
