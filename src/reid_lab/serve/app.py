"""The routes of the service."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.exceptions import HTTPException

from reid_lab import __version__
from reid_lab.errors import UserError
from reid_lab.files.boxes import frame_crops
from reid_lab.files.pixels import decode_pixels
from reid_lab.runtime.images import resize
from reid_lab.runtime.model import Model
from reid_lab.serve.admission import Admission, BusyError
from reid_lab.serve.bodies import (
    EmbedBody,
    EnrollBody,
    ImagesBody,
    LabelBody,
    SearchBody,
    VerifyBody,
    read_body,
    schema_of,
)
from reid_lab.serve.frontier import Point
from reid_lab.serve.guard import ARRIVED, Guard, Limits, RequestError, error_body
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.people import NOBODY, NewImage, People
from reid_lab.serve.rows import Comparison
from reid_lab.serve.scheduler import Embedded, Scheduler
from reid_lab.serve.threads import in_thread
from reid_lab.serve.thresholds import Threshold

PAGE = Path(__file__).with_name("page.html")
THUMBNAIL, QUALITY = 192, 85  # height in pixels, of JPEG
POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
Json = dict[str, Any]


@dataclass(frozen=True)
class Service:
    """What the routes share."""

    model: Model
    people: People
    scheduler: Scheduler
    admission: Admission
    limits: Limits
    metrics: Metrics
    frontier: Sequence[Point] = ()  # of the network's test, cheapest first

    async def embed(
        self,
        body: ImagesBody,
        request: Request,
        ms: float | None = None,
        every: bool = False,
        exclude: str | None = None,
    ) -> tuple[list[np.ndarray], list[Embedded]]:
        """The crops (h, w, 3) of a body, images or boxes, and their answers in the same order.

        Raises:
            UserError: an image that cannot be read, or a box outside of it.
        """
        crops, pixels = await in_thread(self._resized, body)
        futures = self.scheduler.submit(pixels, ms, every, request.scope.get(ARRIVED), exclude)
        return crops, list(await asyncio.gather(*(asyncio.wrap_future(f) for f in futures)))

    def _resized(self, body: ImagesBody) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The crops of a body, and the same in the network's size."""
        crops = self._decoded(body)
        return crops, [resize(crop, self.model.image) for crop in crops]

    def _decoded(self, body: ImagesBody) -> list[np.ndarray]:
        """Decode a body's images, or the boxes of its frame.

        Raises:
            UserError: an image that cannot be read, or a box outside of it.
        """
        decoded, left = list[np.ndarray](), self.limits.pixels
        for i, data in enumerate(body.images):
            decoded.append(decode_pixels(data, f"image {i}", left))
            left -= decoded[-1].shape[0] * decoded[-1].shape[1]
        return decoded if body.boxes is None else frame_crops(decoded[0], body.boxes)

    def verdict(self, exit: str, compared: Comparison, rate: float) -> Json:
        """known, unknown, ambiguous (two people are near enough), or None without a threshold."""
        threshold = self.people.threshold(exit, rate)
        if threshold is None:
            return {"verdict": None, "threshold": None, "false_accept_rate": None}
        people = self.people.within(compared, threshold)
        verdict = ("unknown", "known", "ambiguous")[min(people, 2)]
        return {"verdict": verdict, "threshold": threshold.distance, **_rate(threshold)}


def _rate(threshold: Threshold) -> Json:
    """The rate that it shows, what it is a share of, and on whom it was fitted."""
    t = threshold
    shown = {"rate": t.rate, "of": t.kind, "source": t.source, "people": t.people}
    return {"false_accept_rate": {**shown, "coarse": t.coarse}}


def build_app(service: Service, key: str = "", hosts: frozenset[str] = frozenset()) -> Guard:
    """The ASGI application.

    Args:
        key: that requests must have as `X-API-Key`; empty: none.
        hosts: names under which it is reached; empty: any.
    """
    app = FastAPI(title="reid-lab", version=__version__, docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_queries(app, service)
    _add_people(app, service)
    _add_labels(app, service)
    _add_pages(app, service)

    return Guard(app, service.limits, service.metrics, service.admission, key, hosts)


def _add_errors(app: FastAPI) -> None:
    """Every error has the form {"error": {"status": ..., "message": ...}}."""

    def respond(status: int, message: str) -> Response:
        return Response(error_body(status, message), status, media_type="application/json")

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return respond(error.status, error.message)

    @app.exception_handler(UserError)
    async def wrong(request: Request, error: UserError) -> Response:
        return respond(422, str(error))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        response = respond(503, str(error))
        response.headers["retry-after"] = str(max(1, math.ceil(error.seconds)))
        return response

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        problems = [f"{part['loc'][-1]}: {part['msg']}" for part in error.errors()]
        return respond(422, "; ".join(problems))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return respond(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return respond(500, f"internal error ({type(error).__name__}); the service's log has it")


def _add_queries(app: FastAPI, service: Service) -> None:
    limits, people = service.limits, service.people

    @app.post("/embed", openapi_extra={"requestBody": schema_of(EmbedBody)})
    async def embed(request: Request) -> Response:
        """Embeddings of images or boxes: one exit each, or `every`."""
        body = await read_body(request, EmbedBody, limits)
        _, found = await service.embed(body, request, body.deadline_ms, body.every)
        return await _encoded(lambda: [{**_spent(e), "embeddings": _lists(e)} for e in found])

    @app.post("/search", openapi_extra={"requestBody": schema_of(SearchBody)})
    async def search(request: Request) -> Response:
        """The nearest people of each image, box, or track."""
        body = await read_body(request, SearchBody, limits)
        exclude = body.exclude_camid or None
        _, found = await service.embed(body, request, body.deadline_ms, body.track, exclude)
        return await _encoded(lambda: _searched(service, body, found))

    @app.post("/verify", openapi_extra={"requestBody": schema_of(VerifyBody)})
    async def verify(request: Request) -> Response:
        """Whether each image is of the person `pid`."""
        body = await read_body(request, VerifyBody, limits)
        if not people.knows(body.pid):
            raise RequestError(404, f"unknown person {body.pid!r}")
        _, found = await service.embed(body, request, body.deadline_ms)
        return await _encoded(lambda: _verified(service, body, found))


async def _encoded(results: Callable[[], list[Json]]) -> Response:
    """The answer with these results. Matching and JSON leave the event loop free for others."""
    return await in_thread(lambda: JSONResponse({"results": results()}))


def _searched(service: Service, body: SearchBody, found: Sequence[Embedded]) -> list[Json]:
    pooled = [_pooled(found)] if body.track and found else found
    results, exclude = [], body.exclude_camid or None
    for embedded in pooled:
        exit, row = embedded.exit, embedded.embeddings[embedded.exit]
        compared = service.people.compare(exit, row, exclude)
        verdict = service.verdict(exit, compared, body.false_accept_rate)
        matches = service.people.search(compared, body.top)
        listed = [vars(match) for match in matches]  # `asdict` copies each value, and is slow
        results.append({**_spent(embedded), **verdict, "matches": listed})
    return results


def _verified(service: Service, body: VerifyBody, found: Sequence[Embedded]) -> list[Json]:
    results = []
    for embedded in found:
        distance = service.people.distance(
            embedded.exit, embedded.embeddings[embedded.exit], body.pid
        )
        row, rate = embedded.embeddings[embedded.exit], body.false_accept_rate
        compared = service.people.compare(embedded.exit, row)
        threshold = service.people.threshold(embedded.exit, rate, pairs=True)
        accepted = None if threshold is None or distance is None else distance < threshold.distance
        answer = {"accepted": accepted, "distance": distance}
        answer |= service.verdict(embedded.exit, compared, rate)
        if threshold is not None:  # of the comparison with this person
            answer |= {"threshold": threshold.distance, **_rate(threshold)}
        results.append({**_spent(embedded), **answer})
    return results


def _pooled(found: Sequence[Embedded]) -> Embedded:
    """One answer for a track: the mean embedding of its images at their common exit."""
    exit = found[0].exit
    mean: np.ndarray = np.stack([e.embeddings[exit] for e in found]).mean(0, np.float64)
    spent, late = sum(e.mul_adds for e in found), max(e.late_ms for e in found)
    return Embedded({exit: mean.astype(np.float32)}, exit, spent, max(e.ms for e in found), late)


def _spent(embedded: Embedded) -> Json:
    names = ("exit", "mul_adds", "ms", "late_ms")
    return {name: getattr(embedded, name) for name in names}


def _lists(embedded: Embedded) -> dict[str, list[float]]:
    return {name: row.tolist() for name, row in embedded.embeddings.items()}


def _add_people(app: FastAPI, service: Service) -> None:
    people = service.people

    @app.post("/enroll", status_code=201, openapi_extra={"requestBody": schema_of(EnrollBody)})
    async def enroll(request: Request) -> Json:
        """Add images of a person; they are on the disk when this answers."""
        body = await read_body(request, EnrollBody, service.limits)
        if not body.queries:
            raise RequestError(422, "there are no boxes to add")
        if body.pid in NOBODY:
            raise RequestError(
                422, f"pid {body.pid!r} names nobody (-1 and 0 are of boxes without a person)"
            )
        crops, found = await service.embed(body, request, every=True)
        return {"pid": body.pid, "images": await in_thread(added, body, crops, found)}

    def added(
        body: EnrollBody, crops: Sequence[np.ndarray], found: Sequence[Embedded]
    ) -> list[int]:
        rows = {name: np.stack([e.embeddings[name] for e in found]) for name in people.exits}
        images = [NewImage(body.camid, "", thumbnail(crop)) for crop in crops]
        return people.add(body.pid, images, rows)

    @app.get("/people")
    def listed(start: str = "", limit: int = 100) -> Json:
        """People after `start`, in the order of their names, with their number of images."""
        if not 1 <= limit <= 1_000:
            raise RequestError(422, f"limit={limit}: 1 to 1000")
        found = people.listed(start, limit)
        return {
            "people": [{"pid": p, "images": n, "image": image} for p, n, image in found],
            "next": found[-1][0] if len(found) == limit else None,
        }

    @app.delete("/people/{pid:path}")
    def remove(pid: str) -> Json:
        """Remove a person: images, embeddings and labels are overwritten on the disk."""
        removed = people.remove(pid)
        if not removed:
            raise RequestError(404, f"unknown person {pid[:200]!r}")
        return {"pid": pid, "removed": removed}

    @app.get("/images/{image}", response_class=Response)
    def image_file(image: int) -> Response:
        """The JPEG thumbnail of an image."""
        data = people.thumbnail(image) if 0 < image < 2**63 else None
        if data is None:
            raise RequestError(404, f"image {image} has no thumbnail")
        return Response(data, media_type="image/jpeg")


def thumbnail(crop: np.ndarray) -> bytes:
    """JPEG of pixels (H, W, 3), at most `THUMBNAIL` high."""
    image = Image.fromarray(np.ascontiguousarray(crop))
    image.thumbnail((2 * THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _add_labels(app: FastAPI, service: Service) -> None:
    people = service.people

    @app.post("/labels", status_code=201, openapi_extra={"requestBody": schema_of(LabelBody)})
    async def label(request: Request) -> Json:
        """Keep what a person said of a match, with the image."""
        body = await read_body(request, LabelBody, service.limits)
        if body.queries != 1:
            raise RequestError(422, "a label is of one image, or of one box")
        (crop,), (found,) = await service.embed(body, request, every=True)
        return {"label": await in_thread(kept, body, crop, found)}

    def kept(body: LabelBody, crop: np.ndarray, found: Embedded) -> int:
        distance = people.distance(found.exit, found.embeddings[found.exit], body.pid)
        if distance is None:
            raise RequestError(404, f"unknown person {body.pid!r}")
        return people.label(body.pid, body.correct, found.exit, distance, thumbnail(crop))

    @app.get("/labels")
    def labels() -> Json:
        """All labels: what was confirmed and rejected, with distances."""
        names = ("label", "pid", "correct", "exit", "distance", "time")
        return {"labels": [dict(zip(names, row, strict=True)) for row in people.labels()]}


def _add_pages(app: FastAPI, service: Service) -> None:
    page = PAGE.read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse)
    def home() -> HTMLResponse:
        """The page for people."""
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    @app.get("/docs", response_class=HTMLResponse)
    def docs() -> HTMLResponse:
        """This list."""
        return HTMLResponse(_docs(app), headers={"content-security-policy": POLICY})

    @app.get("/health")
    def health() -> Json:
        """Whether the service answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/status")
    def status() -> Json:
        """The exits, what they cost here, the budget in force, and where queries exited."""
        return _status(service)

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _status(service: Service) -> Json:
    scheduler, manifest = service.scheduler, service.model.manifest
    costs, load = scheduler.costs, scheduler.load
    rows = zip(costs.exits, costs.mul_adds.tolist(), costs.ms.tolist(), strict=True)
    people, images = service.people.count()
    answered = load.exits.total()
    return {
        "model": manifest.fingerprint,
        "precision": manifest.precision,
        "card": manifest.card,
        "image": manifest.preprocessing.image,
        "exits": [
            {"name": name, "mul_adds": m, "ms": ms, "queries": load.exits[name]}
            for name, m, ms in rows
        ],
        "target": asdict(scheduler.target),
        "budget_ms": load.budget_ms,
        "waiting": load.waiting,
        "late": load.late,
        "in_flight": service.admission.in_flight,
        "refused": service.admission.refused,
        "max_wait_ms": service.admission.max_wait_ms,
        "mean_mul_adds": load.mul_adds / answered if answered else None,
        "frontier": [asdict(point) for point in service.frontier],
        "people": people,
        "images": images,
    }


def _docs(app: FastAPI) -> str:
    """The routes on one page, without a script or another host."""
    rows = []
    for path, methods in app.openapi()["paths"].items():
        for method, route in methods.items():
            fields = []
            for media in route.get("requestBody", {}).get("content", {}).values():
                fields = list(media["schema"]["properties"])
            cells = (f"{method.upper()} {path}", route.get("description", ""), ", ".join(fields))
            rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>reid-lab: routes</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui;margin:2rem auto;"
        "max-width:60rem;padding:0 1rem}td{padding:.4rem .6rem;vertical-align:top;"
        "border-top:1px solid #8884}td:first-child{font-family:monospace;white-space:nowrap}"
        "div{overflow-x:auto}</style>"
        "<h1>Routes</h1><p>Bodies are JSON (images as base64) or multipart forms (images as "
        "files). The full description is at <a href=/openapi.json>/openapi.json</a>.</p>"
        f"<div><table>{body}</table></div></html>"
    )
